"""Results that are expensive to compute, cached in files from run to run.

An entry is one file whose name holds a hash of everything that its content depends on. An entry
that is missing or damaged is computed again; one that cannot be written costs a warning:

    file = cache_file(data_dir / "statistics", "cifar10", key)
    result = read_entry(file, parse)
    if result is None:
        result = compute()
        write_entry(file, json.dumps(result), "mean and std")
"""

import ast
import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import TypeVar

from dcond.errors import READ_ERRORS
from dcond.paths import expand_home, write_bytes

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

# What json, torch.load, load_state_dict and conversions raise for content that is not an entry.
_DAMAGED = (*READ_ERRORS, TypeError, LookupError)


def cache_file(folder: Path, name: str, key: str | bytes, suffix: str = ".json") -> Path:
    """Return the path of an entry, ``<folder>/<name>_<16 hex digits of SHA-256(key)><suffix>``.

    Args:
        folder: of the cache; it need not exist, and may begin with ``~``.
        name: start of the file name, for the reader.
        key: everything that the content depends on, the version of dcond included; of classes that
            may be a user's, :func:`own_code` too.
        suffix: of the file.
    """
    content = key.encode() if isinstance(key, str) else key
    return expand_home(folder) / f"{name}_{hashlib.sha256(content).hexdigest()[:16]}{suffix}"


def own_code(*parts: object) -> str:
    """Return the source files of parts whose classes are not dcond's, for keys: users edit them.

    Of an augmentation that a part has, too, and of the modules that these import, except those of
    installed packages. The files are read once, so call this soon after they are imported.
    """
    augments = (getattr(part, "augment", None) for part in parts)
    kinds = [kind for part in (*parts, *augments) for kind in type(part).__mro__]
    waiting, found = [kind.__module__ for kind in kinds], dict[str, None]()
    while waiting:
        if (name := waiting.pop(0)) not in found and _is_foreign(name):
            found[name] = None
            waiting += [module for module in _imported(name) if not _is_installed(module)]
    return "".join(map(_source, found))


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top != "dcond" and top not in sys.stdlib_module_names


@cache
def _imported(module: str) -> tuple[str, ...]:
    """Return the modules that the source of a module imports, as far as they are loaded."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError, SyntaxError):
        return ()
    package, names = sys.modules[module].__package__, list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            name = resolve_name(name, package) if node.level else name
            names += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name in sys.modules)


def _is_installed(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


@cache
def _source(module: str) -> str:
    try:
        return f"{module}: {inspect.getsource(sys.modules[module])}"
    except (OSError, TypeError, KeyError):  # typed into an interpreter
        return module


def read_entry(source: S, parse: Callable[[S], T]) -> T | None:
    """Return ``parse(source)``, or None if the entry is missing or damaged.

    Args:
        source: the entry's path, or its text where that was read elsewhere.
        parse: reads the entry.
    """
    try:
        return parse(source)
    except _DAMAGED:
        return None


def write_entry(file: Path, content: str | bytes, what: str) -> None:
    """Write an entry atomically and create its folder; a failure is only a warning.

    Args:
        file: see :func:`cache_file`.
        content: text is written as UTF-8.
        what: names the content in the warning.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        log.warning("cannot cache %s in %s: %s", what, file, error.strerror or error)
