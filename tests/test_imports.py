import gc
import sys
import types

import pytest

from tsllm.imports import defer, pause_collection


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A module that is there and not imported yet."""
    (tmp_path / "costly_tool.py").write_text("def work(x, by=2):\n    return x * by\n\nOTHER = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("costly_tool", None)


@pytest.mark.usefixtures("tool")
def test_a_deferred_function_imports_its_module_when_it_is_called_and_gives_its_result():
    with defer("costly_tool", "work"):
        from costly_tool import work
    assert "costly_tool" not in sys.modules
    assert work(3, by=5) == 15
    assert work.__name__ == "work"
    assert sys.modules["costly_tool"].work is not work


@pytest.mark.usefixtures("tool")
def test_another_name_of_a_deferred_module_is_the_real_one():
    with defer("costly_tool", "work"):
        from costly_tool import OTHER

        with pytest.raises(ImportError, match="missing"):
            from costly_tool import missing  # noqa: F401
    assert OTHER == 7
    import costly_tool

    assert costly_tool.work(2) == 4


def test_a_module_that_is_loaded_already_is_not_deferred(monkeypatch):
    here = types.ModuleType("costly_tool")
    monkeypatch.setitem(sys.modules, "costly_tool", here)
    with defer("costly_tool", "work"):
        assert sys.modules["costly_tool"] is here
    assert sys.modules["costly_tool"] is here


def test_collection_goes_on_after_a_pause_and_stays_off_where_it_was_off():
    with pause_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), pause_collection():
        1 / 0  # noqa: B018
    assert gc.isenabled()
    gc.disable()
    try:
        with pause_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
