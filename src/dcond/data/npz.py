"""A user's own images in one npz file."""

from dcond.data.base import Dataset
from dcond.data.prepared import Prepared, read_prepared
from dcond.paths import expand_home
from dcond.settings import settings


@settings
class Npz(Dataset):
    """An npz file with ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    ``class_names`` is optional.

    Args:
        path: the file. Images uint8 or float in [0, 1], (n, h, w), (n, h, w, 1) or (n, h, w, 3);
            integer labels from 0.
    """

    path: str
    name: str = "npz"

    def arrays(self) -> Prepared:
        """Return both splits of the file."""
        return read_prepared(expand_home(self.path), some_classes=self.classes is not None)
