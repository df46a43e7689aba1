"""What happens around the import of large libraries: no pause for collection, and nothing that nobody calls.

A process that forecasts spends most of its time on imports. Two things in them are of no use: Python looks dozens of
times for garbage among objects that stay, and transformers loads scipy.optimize for the losses of object detectors.
"""

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Around = Callable[[], AbstractContextManager[None]]


@contextmanager
def pause_collection() -> Iterator[None]:
    """Leaves garbage alone for a while; what is imported stays, so that the search for it finds nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if _FINDER.keeps:
                gc.freeze()
            gc.enable()


@contextmanager
def defer(name: str, function: str) -> Iterator[None]:
    """Lets `from name import function` give a function that imports the module when it is called.

    Any other name of the module, and the module itself once this has ended, is the real one.

    Args:
        name: The module.
        function: The name in it that nobody may need.
    """
    if name in sys.modules:
        yield
        return
    stand_in = _StandIn(name, function)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        stand_in.leave()


class _StandIn(ModuleType):
    """A module that is imported when something of it is used."""

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self.open(), function)(*args, **kwargs)

        call.__name__ = call.__qualname__ = function
        setattr(self, function, call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by the machinery of imports
            raise AttributeError(name)
        return getattr(self.open(), name)

    def leave(self) -> None:
        """Makes room for the real module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def open(self) -> ModuleType:
        """Returns the real module."""
        self.leave()
        return importlib.import_module(self.__name__)


class _Finder(MetaPathFinder):
    """Finds what stands in the table, as the usual finder does, and runs it within what the table says."""

    def __init__(self) -> None:
        self.table: dict[str, Around] = {}
        self.keeps = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.table:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            _run_within(spec.loader, self.table[fullname])
        return spec


def _run_within(loader: Any, around: Around) -> None:
    """Changes one loader, that of this import, and keeps all else that it can (sources, resources)."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        with around():
            execute(module)

    loader.exec_module = exec_module


_FINDER = _Finder()
_FINDER.table |= dict.fromkeys(("torch", "transformers", "transformers.modeling_utils", "pandas"), pause_collection)
_FINDER.table["transformers.loss.loss_utils"] = lambda: defer("scipy.optimize", "linear_sum_assignment")


def run_around_import(name: str, around: Around) -> None:
    """Runs the import of a module, when it comes, within `around()`."""
    _FINDER.table[name] = around


def keep_imports() -> None:
    """Lets later searches for garbage pass over what was there when a library had been imported.

    For a process of our own (a command): what is garbage at that moment stays, too.
    """
    _FINDER.keeps = True


def watch_imports() -> None:
    """From now on imports go as this module says; once is enough."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
