"""One run on built parts: condensing, evaluating, and the files of a run folder.

:func:`condense` is imported on first use: reading results needs no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcond.run.condensation import condense as condense


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only then."""
    if name != "condense":
        raise AttributeError(f"module 'dcond.run' has no attribute {name!r}")
    from dcond.run.condensation import condense

    return condense
