"""No two modules of tsllm need each other, at the head of a file or within a function."""

import grimp


def find_circles(imports):
    """Returns the sets of modules that reach each other, each sorted (Tarjan 1972)."""
    order, lowest, waiting, found = {}, {}, [], []

    def visit(module):
        order[module] = lowest[module] = len(order)
        waiting.append(module)
        for other in imports[module]:
            if other not in order:
                visit(other)
            if other in waiting:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            start = waiting.index(module)
            found.append(sorted(waiting[start:]))
            del waiting[start:]

    for module in imports:
        if module not in order:
            visit(module)
    return sorted(circle for circle in found if len(circle) > 1)


def test_circles_are_found_of_any_length():
    imports = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"], "e": ["d"], "f": ["a", "f"]}
    assert find_circles(imports) == [["a", "b", "c"], ["d", "e"]]


def test_an_import_within_a_function_counts_and_one_for_types_alone_does_not(tmp_path, monkeypatch):
    package = tmp_path / "circle_of_two"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def use():\n    from circle_of_two.two import x\n    return x\n")
    (package / "two.py").write_text("from circle_of_two import one\nx = 1\n")
    (package / "three.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circle_of_two import four\n"
    )
    (package / "four.py").write_text("from circle_of_two import three\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_circles(read_imports("circle_of_two")) == [["circle_of_two.one", "circle_of_two.two"]]


def read_imports(package):
    """Returns module -> modules of the package that it imports, wherever in the file."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    return {module: sorted(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def test_no_two_modules_import_each_other():
    imports = read_imports("tsllm")
    assert "tsllm.forecasting.ensemble" in imports["tsllm.forecasting.roster"]
    assert find_circles(imports) == []
