"""Which public layout a file or folder has, recognised by its content."""

from pathlib import Path
from typing import Any, Protocol

from dcond.errors import ArtefactError
from dcond.importers import dc, hmdc, idc, image_folder, mtt, npz, tensor_dict
from dcond.importers.raw_set import RawSet
from dcond.paths import file_kind
from dcond.safe_load import HOW_TO_SAVE, read_tensors


class Layout(Protocol):
    """Interface of the modules for contents of ``.pt`` files."""

    def matches(self, content: Any) -> bool:
        """Return whether the content of a file has this layout."""

    def read(self, path: Path, content: Any, index: int | None) -> RawSet:
        """Return the set in a file's content."""


TENSOR_LAYOUTS: tuple[Layout, ...] = (dc, hmdc, tensor_dict, idc, mtt)
# Usual names in a folder: of MTT and DATM, IDC and NCFM, HMDC.
USUAL_NAMES = ("images_best.pt", "data.pt", "synthetic_images.pth")
ALLOWED = (
    "a dcond artefact, .pt or .pth of DC/DSA/DM, MTT/DATM, IDC/NCFM or HMDC, .npz, or a folder of "
    "class folders"
)


def load_any(path: Path, index: int | None = None) -> RawSet:
    """Read a set of any known layout.

    Args:
        path: a file, or the folder that holds it.
        index: of the set, in a file that holds several.

    Raises:
        ArtefactError: an unknown layout, a damaged file, or one that would run code.
        ConfigError: no set of that index.
        DataError: a folder of images that cannot be used.
    """
    if path.is_dir():
        inside = [path / name for name in USUAL_NAMES if (path / name).is_file()]
        inside = inside or sorted(path.glob("images_*.pt"))  # MTT saves one per iteration
        if len(inside) > 1:
            raise ArtefactError(
                f"{path} holds {' and '.join(file.name for file in inside)}; give one of these "
                "files."
            )
        if inside:
            return load_any(inside[0], index)
        if image_folder.matches(path):
            return image_folder.read(path)
        raise ArtefactError(f"{path} holds no synthetic set; allowed: {ALLOWED}.")
    if path.suffix == ".npz":
        return npz.read(path)
    if path.suffix in (".pkl", ".pickle"):
        raise ArtefactError(
            f"{path} is a pickle, which may run code; save the set as {HOW_TO_SAVE}."
        )
    if path.suffix not in (".pt", ".pth"):
        kind = file_kind(path) or path.suffix or "no suffix"
        raise ArtefactError(f"{path} has an unknown type ({kind}); allowed: {ALLOWED}.")
    content = read_tensors(path)
    for layout in TENSOR_LAYOUTS:
        if layout.matches(content):
            return layout.read(path, content, index)
    keys = f" with {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else ""
    raise ArtefactError(
        f"{path} holds a {type(content).__name__}{keys}, an unknown layout; allowed: {ALLOWED}; or "
        f"save it as {HOW_TO_SAVE}."
    )
