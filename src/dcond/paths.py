"""Where the packaged configuration lives, and how files are written so that a crash never leaves half of one."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_TEMPORARY = ".tmp"


def conf_dir() -> Path:
    """Folder of the packaged configs: inside the wheel, or the checkout's ``conf/`` when installed editable."""
    here = Path(__file__).resolve().parent
    # An editable install leaves a frozen copy of conf/ in site-packages; only these two places are
    # ever right.
    for folder in (here / "conf", here.parents[1] / "conf"):
        if (folder / "condense.yaml").is_file():
            return folder
    raise FileNotFoundError(
        "dcond: conf/ is neither in the package nor beside src/; reinstall dcond"
    )


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it onto ``path``.

    A reader sees the old file or the new one, never a part; a failure leaves the old one and no
    debris. Only a killed process leaves its temporary file.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp made it private; the result is an ordinary file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`write_atomically` could not, being killed; nobody else may be writing in the folder."""
    for file in folder.glob(f".*{_TEMPORARY}"):
        file.unlink(missing_ok=True)


def relative_to_cwd(path: Path) -> Path:
    """Return a path relative to the current folder if it lies below it: short enough to print."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
