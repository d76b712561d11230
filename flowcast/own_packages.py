"""Lets our packages be imported beside modules of the user's that have the same names.

flowcast is built of the top-level packages `app`, `data`, `forecasting` and `pipelines`. A notebook may
have a `data.py` or a folder `app` of its own beside it, which Python finds first. So code of ours runs
within `own_packages()`: there these names mean our packages. Outside they mean the user's modules
where there are any, and ours where there are none.
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

NAMES = ("app", "data", "forecasting", "pipelines")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that our packages stand in."""

_lock = threading.Lock()
_entered = 0
"""How many calls are within `own_packages()`, of all threads."""
_ours: dict[str, ModuleType] = {}
_theirs: dict[str, ModuleType] = {}
"""Modules that are set aside, by name: ours while the user's code runs, the user's while ours runs."""


@contextmanager
def own_packages() -> Iterator[None]:
    """Makes `NAMES` mean our packages, and the user's modules again at the end.

    Calls may be nested. While one thread is within, other threads see our packages too.
    """
    global _entered
    with _lock:
        if not _entered:
            _show_ours()
        _entered += 1
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if not _entered:
                _show_theirs()


class OwnPackages(MetaPathFinder):
    """Finds our packages for our own code, and the user's modules of the same names for the user's."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Returns the spec of one of `NAMES`, None where Python's own search finds the right one."""
        if fullname not in NAMES:
            return None
        return PathFinder.find_spec(fullname, [str(ROOT)]) if _entered else _spec_before(fullname)


def install() -> None:
    """Puts the finder before all others."""
    if not any(isinstance(finder, OwnPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnPackages())


def _show_ours() -> None:
    for name in NAMES:
        if name in sys.modules and not _is_ours(sys.modules[name]):
            _theirs.update(_taken(name))
        if name not in sys.modules:
            sys.modules.update(_family(name, _ours))
    _ours.clear()


def _show_theirs() -> None:
    for name in NAMES:
        if name in _theirs or (name in sys.modules and _spec_before(name)):
            _ours.update(_taken(name))
    sys.modules.update(_theirs)
    _theirs.clear()


def _taken(name: str) -> dict[str, ModuleType]:
    """Removes a module and what is in it from those that are loaded, and returns them by name."""
    family = _family(name, sys.modules)
    for member in family:
        del sys.modules[member]
    return family


def _family(name: str, modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
    return {key: module for key, module in modules.items() if key.partition(".")[0] == name}


def _is_ours(module: ModuleType) -> bool:
    return str(ROOT / module.__name__) in map(os.path.realpath, getattr(module, "__path__", ()))


def _spec_before(name: str) -> ModuleSpec | None:
    """Returns the spec of a user's module that stands before our package on `sys.path`, if there is one.

    A folder without `__init__.py` counts where it holds Python files: one of data alone does not.
    """
    places = [os.path.realpath(place) for place in sys.path]
    end = places.index(str(ROOT)) if str(ROOT) in places else len(places)
    spec = PathFinder.find_spec(name, sys.path[:end])
    if spec is None or spec.origin is not None:
        return spec
    folders = spec.submodule_search_locations or ()
    return spec if any(any(Path(folder).glob("*.py")) for folder in folders) else None
