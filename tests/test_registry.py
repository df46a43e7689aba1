import pytest

from tsllm.registry import Registry, UnknownNameError


@pytest.fixture
def table():
    return Registry("model", {"dlinear": 1, "patchtst": 2})


def test_names_are_sorted_and_iteration_keeps_the_tables_order(table):
    table.add("autoformer", 3)
    assert table.names() == ["autoformer", "dlinear", "patchtst"]
    assert list(table) == ["dlinear", "patchtst", "autoformer"]
    assert table.items() == [("dlinear", 1), ("patchtst", 2), ("autoformer", 3)]
    assert len(table) == 3


def test_get_returns_what_add_was_given(table):
    thing = object()
    assert table.add("new", thing) is thing
    assert table.get("new") is thing
    assert "new" in table


def test_a_taken_name_is_refused_and_the_entry_stays(table):
    with pytest.raises(ValueError, match="the model 'dlinear' is registered already"):
        table.add("dlinear", 9)
    assert table.get("dlinear") == 1


def test_an_unknown_name_lists_the_nearest_and_all(table):
    with pytest.raises(UnknownNameError) as caught:
        table.get("dliner")
    assert str(caught.value) == "unknown model 'dliner'; did you mean 'dlinear'? known: dlinear, patchtst"
    assert isinstance(caught.value, KeyError)


def test_a_name_near_to_none_lists_all(table):
    with pytest.raises(UnknownNameError, match="unknown model 'zzz'; known: dlinear, patchtst"):
        table.get("zzz")


def test_the_table_does_not_follow_the_mapping_it_was_made_from():
    entries = {"a": 1}
    table = Registry("thing", entries)
    entries["b"] = 2
    assert "b" not in table
