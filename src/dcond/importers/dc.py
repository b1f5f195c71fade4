"""DC, DSA, DM and projects based on them: a dict whose ``data`` lists [images, labels] pairs.

One pair per experiment. Source: github VICO-UoE/DatasetCondensation, ``main.py`` and
``main_DM.py``. Images are stored as optimised: normalised by the constants in that code, never
clipped.
"""

import logging
from pathlib import Path
from typing import Any

from dcond.errors import ConfigError
from dcond.importers.raw_set import RawSet
from dcond.safe_load import tensor_pair

log = logging.getLogger(__name__)

LAYOUT = "DC, DSA, DM"  # the only one of several sets


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, list) and len(data) > 0 and all(map(tensor_pair, data))


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return one of the sets in a file; without an index the first, which is logged.

    Raises:
        ConfigError: there is no set of that index.
    """
    sets = content["data"]
    if index is None and len(sets) > 1:
        log.info("%s holds %d sets; reading the first (index=0)", path, len(sets))
    if index is not None and index >= len(sets):
        raise ConfigError(
            f"index={index} is out of range: {path} holds {len(sets)} set(s), counted from 0."
        )
    images, labels = sets[index or 0]
    return RawSet(LAYOUT, path, images, labels, normalised=True)
