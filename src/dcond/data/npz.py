"""A user's own images in one npz file."""

from dataclasses import dataclass
from pathlib import Path

from dcond.data.base import Dataset
from dcond.data.prepared import Prepared, read_prepared


@dataclass(frozen=True, kw_only=True)
class Npz(Dataset):
    """An npz file with ``train_images``, ``train_labels``, ``test_images``, ``test_labels`` and maybe ``class_names``.

    Args:
        path: the file. Images uint8 or float in [0, 1], (n, h, w), (n, h, w, 1) or (n, h, w, 3);
            integer labels from 0.
    """

    path: str
    name: str = "npz"

    def arrays(self) -> Prepared:
        """Return both splits of the file."""
        return read_prepared(Path(self.path).expanduser(), on_disk=True)
