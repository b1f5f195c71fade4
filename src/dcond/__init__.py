"""dcond condenses an image data set into a few synthetic images per class and measures what they are worth.

The promised Python surface is small: :func:`load` reads an artefact, and the
:class:`~dcond.types.SyntheticSet` it returns offers ``dataset()`` for any training loop.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["SyntheticSet", "__version__", "load"]

if TYPE_CHECKING:
    from dcond.artefact import load as load
    from dcond.types import SyntheticSet as SyntheticSet


def __getattr__(name: str) -> Any:
    """Import torch only when an attribute that needs it is asked for: the command line's help stays instant."""
    if name == "load":
        from dcond.artefact import load

        return load
    if name == "SyntheticSet":
        from dcond.types import SyntheticSet

        return SyntheticSet
    raise AttributeError(f"module 'dcond' has no attribute {name!r}")
