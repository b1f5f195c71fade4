"""DC, DSA, DM and those who took over their code: a dict whose ``data`` lists [images, labels], one per experiment.

Source: github VICO-UoE/DatasetCondensation, ``main.py`` and ``main_DM.py``. Images are stored as
optimised: normalised by the constants in that code, never clipped.
"""

import logging
from pathlib import Path
from typing import Any

from dcond.errors import ConfigError
from dcond.importers.raw_set import RawSet
from dcond.importers.safe_load import tensor_pair

log = logging.getLogger(__name__)


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, list) and len(data) > 0 and all(map(tensor_pair, data))


def read(path: Path, content: Any, number: int | None) -> RawSet:
    """Return one of the sets in a file; without a number the first, and the log says so.

    Raises:
        ConfigError: there is no set of that number.
    """
    sets = content["data"]
    if number is None and len(sets) > 1:
        log.info("%s holds %d sets; this is the first (number=0)", path, len(sets))
    if number is not None and number >= len(sets):
        raise ConfigError(
            f"number={number} is out of range: {path} holds {len(sets)} set(s), numbered from 0."
        )
    images, labels = sets[number or 0]
    return RawSet("DC, DSA, DM", path, images, labels, normalised=True)
