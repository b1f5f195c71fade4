"""What a user is told where memory ran out: which settings bound it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcond.errors import DcondError, first_line, yaml_repr
from dcond.run.result import flat

# On a CPU, PyTorch and the libraries below it have no class of their own for it, only words.
_SIGNS = (
    "can't allocate memory",
    "bad_alloc",
    "could not create a memory",
    "could not create a primitive",
)
_BOUNDS = (
    "chunk",
    "batch_real",
    "batch_train",
    "batch",
)  # settings that bound the memory, wherever they stand


@contextmanager
def oom_as_user_error(settings: dict[str, Any]) -> Iterator[None]:
    """Turn every way of running out of memory into one line.

    Args:
        settings: the run's, as in its result.

    Raises:
        DcondError: memory ran out; names the settings that bound it, with their values.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        words = first_line(error)
        if not _is_shortage(error, words):
            raise
        raise DcondError(
            f"out of memory ({words[:200]}). Start again with a smaller {_bounds(settings)}."
        ) from error


def _is_shortage(error: BaseException, words: str) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in words for sign in _SIGNS
    )


def _bounds(settings: dict[str, Any]) -> str:
    values = {
        name: value for name, value in flat(settings).items() if name.rpartition(".")[2] in _BOUNDS
    }
    names = sorted(
        values, key=lambda name: not name.startswith(("method.", "engine."))
    )  # the likeliest first
    last = "or ipc" if "method" in settings else "or a pool of smaller networks"
    now = {
        name: "" if values[name] is None else f" (now {yaml_repr(values[name])})" for name in names
    }
    return ", ".join([*(name + now[name] for name in names), last])
