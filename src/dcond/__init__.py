"""Dataset condensation: a few synthetic images per class, and the accuracy of training on them.

The supported Python interface: :func:`condense` and :func:`evaluate` do what the commands of the
same name do, :func:`load` reads an artefact, :func:`merge` joins sets of different classes, and
:class:`SyntheticSet` offers ``dataset()`` for any training loop.
Importing dcond imports neither torch nor Hydra.
"""

from typing import TYPE_CHECKING

from dcond.lazy import lazy_names

__version__ = "0.1.0"
__all__ = ["DcondError", "SyntheticSet", "__version__", "condense", "evaluate", "load", "merge"]

if TYPE_CHECKING:
    from dcond.artefact import load as load
    from dcond.cli.condense import condense as condense
    from dcond.cli.evaluate import evaluate as evaluate
    from dcond.errors import DcondError as DcondError
    from dcond.merging import merge as merge
    from dcond.types import SyntheticSet as SyntheticSet


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__getattr__ = lazy_names(
    __name__,
    {
        "DcondError": "dcond.errors",
        "SyntheticSet": "dcond.types",
        "condense": "dcond.cli.condense",
        "evaluate": "dcond.cli.evaluate",
        "load": "dcond.artefact",
        "merge": "dcond.merging",
    },
)
