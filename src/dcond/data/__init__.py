"""Real data sets: one class per source; ``load`` gives :class:`~dcond.types.RealData`."""

from dcond.data.archive import Archive
from dcond.data.base import CachedDataset, Dataset
from dcond.data.digits import Digits
from dcond.data.image_folder import ImageFolder
from dcond.data.npz import Npz
from dcond.data.prepared import Prepared, read_prepared, write_prepared
from dcond.data.torchvision_set import TorchvisionSet

__all__ = [
    "Archive",
    "CachedDataset",
    "Dataset",
    "Digits",
    "ImageFolder",
    "Npz",
    "Prepared",
    "TorchvisionSet",
    "read_prepared",
    "write_prepared",
]
