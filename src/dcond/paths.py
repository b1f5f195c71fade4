"""The folder of the packaged configuration, and atomic writing of files."""

import os
import secrets
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TEMPORARY = ".tmp"
_KINDS = {
    b"<!doctype": "an HTML page, not the file that it links to",
    b"<html": "an HTML page, not the file that it links to",
    b"version https://git-lfs": "a Git LFS pointer, not the file (run git lfs pull)",
    b"pk\x03\x04": "a zip archive",
    b"\x89hdf": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"\x80\x02\x8a": "a pickle, which may run code",
    b"\x80\x04\x95": "a pickle, which may run code",
    b"\x80\x05\x95": "a pickle, which may run code",
    b"\x93numpy": "a .npy array",
    b"\x89png": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%pdf": "a PDF document",
    b"{": "a JSON text",
}


def expand_home(path: Path | str) -> Path:
    """Return a path in which ``~`` is the home folder; ``~name`` of no user stays as it is."""
    return Path(os.path.expanduser(path))


def conf_dir() -> Path:
    """Return the packaged configs: inside the wheel, or the checkout's ``conf/`` if editable.

    Raises:
        FileNotFoundError: neither exists; the installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    # An editable install leaves an outdated copy of conf/ in site-packages: look nowhere else.
    for folder in (here / "conf", here.parents[1] / "conf"):
        if (folder / "condense.yaml").is_file():
            return folder
    raise FileNotFoundError(
        "dcond: conf/ is neither in the package nor beside src/; reinstall dcond"
    )


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically (see :func:`write_atomically`)."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically (see :func:`write_atomically`)."""
    write_atomically(path, lambda file: file.write_bytes(content))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it and rename it to ``path``.

    Readers see the old file or the new one, never a part of it. A failure leaves the old file and
    removes the temporary one; only a killed process leaves it behind.

    Args:
        path: the file to create or replace.
        write: fills the file that it is given.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_urlsafe(6)}{_TEMPORARY}")
    # Not by tempfile, whose files are private.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # of a file system without modes
            temporary.chmod(mode)  # safetensors makes a private file of its own
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes; no other process may write in the folder."""
    for file in folder.glob(f".*.????????{_TEMPORARY}"):
        file.unlink(missing_ok=True)


def relative_to_cwd(path: Path) -> Path:
    """Return a path relative to the current folder if it lies below it: short enough to print."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def file_kind(path: Path) -> str:
    """Return the type of a file by its first bytes, for messages; empty if unknown.

    Example:
        >>> file_kind(Path("half.npz"))
        'an incomplete zip archive (an interrupted download?)'
    """
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError:
        return ""
    if not begin:
        return "empty"
    begin = begin.lstrip().lower()
    kind = next((kind for magic, kind in _KINDS.items() if begin.startswith(magic)), "")
    if kind == "a zip archive" and not zipfile.is_zipfile(path):
        return "an incomplete zip archive (an interrupted download?)"
    return kind
