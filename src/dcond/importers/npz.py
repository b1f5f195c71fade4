"""Npz files with ``images`` and ``labels``, as ``dcond export --to npz`` writes them.

Optional: ``class_names``, ``factor``, ``align_corners``, and the ``mean`` and ``std`` by which
networks get the pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dcond.data.prepared import read_npz
from dcond.data.statistics import Statistics
from dcond.errors import ArtefactError, DataError
from dcond.importers.raw_set import RawSet

KEYS = ("images", "labels", "class_names", "factor", "align_corners", "mean", "std")


def read(path: Path) -> RawSet:
    """Return the set: uint8, or floating point pixels in [0, 1]; channels first or last.

    Raises:
        ArtefactError: damaged, not an npz, an array is missing or holds Python objects.
    """
    try:
        arrays = read_npz(path, KEYS)
    except DataError as error:
        raise ArtefactError(str(error)) from error
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise ArtefactError(
            f"{path} lacks {', '.join(missing)}; an npz of a synthetic set holds images and labels."
        )
    images = _channels_first(_tensor(path, arrays["images"], "images"))
    floats = images.is_floating_point() and images.numel() > 0
    pixels = images.dtype == torch.uint8 or (floats and images.min() >= 0 and images.max() <= 1)
    names = arrays.get("class_names")
    return RawSet(
        "npz",
        path,
        images,
        _tensor(path, arrays["labels"], "labels"),
        normalised=False if pixels else None,
        factor=_factor(path, arrays["factor"]) if "factor" in arrays else 1,
        align_corners=bool(np.any(arrays.get("align_corners", False))),
        statistics=_statistics(path, arrays, images),
        class_names=tuple(map(str, names)) if names is not None and names.ndim == 1 else None,
    )


def _channels_first(images: torch.Tensor) -> torch.Tensor:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        return images.permute(0, 3, 1, 2).contiguous()
    return images


def _factor(path: Path, array: NDArray[Any]) -> int:
    if array.size != 1 or array.dtype.kind not in "ui" or array.item() < 1:
        raise ArtefactError(f"{path}: factor is {array.tolist()!r}; save a whole number from 1.")
    return int(array.item())


def _statistics(
    path: Path, arrays: Mapping[str, NDArray[Any]], images: torch.Tensor
) -> Statistics | None:
    """Return mean and std; None unless the file has both, or where the images are none."""
    if not {"mean", "std"} <= arrays.keys() or images.ndim != 4:
        return None
    channels = images.shape[1]
    mean, std = (np.atleast_1d(arrays[name]) for name in ("mean", "std"))
    for name, values, low in (("mean", mean, -np.inf), ("std", std, 0)):
        numbers = values.shape == (channels,) and values.dtype.kind in "uif"
        if not numbers or not np.isfinite(values).all() or not (values > low).all():
            raise ArtefactError(
                f"{path}: {name} is {values.tolist()!r}; save {channels} finite number(s)"
                f"{' above 0' if name == 'std' else ''}, or leave mean and std out."
            )
    return tuple(map(float, mean)), tuple(map(float, std))


def _tensor(path: Path, array: NDArray[Any], what: str) -> torch.Tensor:
    if array.dtype.kind not in "uif":
        raise ArtefactError(f"{path}: {what} have type {array.dtype}; save numbers.")
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # infinite values are refused on conversion
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    return torch.from_numpy(np.ascontiguousarray(array))
