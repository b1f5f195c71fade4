"""Environment variables: those of dcond, and others for the length of a block."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dcond.paths import expand_home


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def expand_environment() -> None:
    """Expand ``~`` in dcond's environment variables, as no shell does in an ``.env`` file.

    An empty one counts as unset.
    """
    for name in ("DCOND_DATA", "DCOND_OUTPUTS"):
        folder = os.environ.get(name)
        if folder == "":
            del os.environ[name]
        elif folder is not None and folder.startswith("~"):
            os.environ[name] = str(expand_home(folder))
