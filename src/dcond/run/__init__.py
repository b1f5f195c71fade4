"""One run on built parts: condensing, evaluating, and the files of a run folder.

:func:`condense` and :func:`evaluate` are imported on first use: reading results needs no torch.
"""

from typing import TYPE_CHECKING

from dcond.lazy import lazy_names

if TYPE_CHECKING:
    from dcond.run.from_parts import condense as condense
    from dcond.run.from_parts import evaluate as evaluate

__getattr__ = lazy_names(__name__, dict.fromkeys(("condense", "evaluate"), "dcond.run.from_parts"))
