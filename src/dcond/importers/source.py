"""Where a synthetic set comes from and how it is to be read: what ``synthetic=FILE synthetic.OPTION=...`` says."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dcond import artefact
from dcond.errors import ConfigError, require, whole_number
from dcond.importers.class_matching import in_class_order
from dcond.importers.convert import ReadOptions, fit
from dcond.importers.detect import load_any
from dcond.importers.raw_set import RawSet
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


def is_artefact(path: Path) -> bool:
    """Tell whether a path is to be read as one of dcond's own artefacts; what does not exist counts as one."""
    if path.is_dir():
        return any(
            (path / name).is_file() for name in ("synthetic.safetensors", "result.json")
        )  # a run, done or not
    return path.suffix == ".safetensors" or not path.exists()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of any known layout, and what it does not say of itself. Making one reads nothing.

    Args:
        path: a dcond artefact or its run folder, or a file or folder of a public layout.
        normalised: true: stored as (x - mean) / std; false: pixels in [0, 1]; None: as the layout
            says.
        zca: the images are ZCA-whitened; the whitening is fitted on the real training set.
        factor: multi-formation factor of images that are still packed; None: as the file says.
        logits: soft labels are logits, made probabilities by a softmax (DATM).
        mean: of the normalisation, which it implies; None: the constants of the layout's own code.
        std: likewise.
        number: which set of a file that holds several (DC, DSA, DM), from 0.
        method: how tables call the set; None: as the file says, else its name.
        option: how the command line calls this source.
    """

    path: str
    normalised: bool | None = None
    zca: bool = False
    factor: int | None = None
    logits: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    number: int | None = None
    method: str | None = None
    option: str = "synthetic"

    def __post_init__(self) -> None:
        if self.factor is not None:
            whole_number(f"{self.option}.factor", self.factor)
        name = self.option
        require(
            self.number is None or self.number >= 0,
            f"{name}.number={self.number} is out of range; from 0.",
        )
        require(
            (self.mean is None) == (self.std is None),
            f"{name}.mean and {name}.std go together; give both.",
        )
        both = self.zca and (self.normalised is not None or self.mean is not None)
        plain = self.normalised is False and self.mean is not None
        require(
            not plain,
            f"{name}.normalised=false has no use for {name}.mean and {name}.std; leave them out.",
        )
        require(
            not both,
            f"{name}.zca=true stands in place of {name}.normalised, mean and std; leave these out.",
        )

    def read(self) -> SyntheticSet | RawSet:
        """Read the file; nothing in it is run.

        Raises:
            ArtefactError: missing, damaged, of no known layout, or holding code.
            ConfigError: options for an artefact of dcond, which says all of it itself.
        """
        path = Path(self.path).expanduser()
        if not is_artefact(path):
            return load_any(path, self.number)
        synthetic = artefact.load(path)
        free = {"path", "method", "option"}
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if words := [f"{self.option}.{name}" for name in given if name not in free]:
            raise ConfigError(
                f"{path} says by itself how it is to be read; leave out {', '.join(words)}."
            )
        return synthetic

    def fitted(self, content: SyntheticSet | RawSet, real: RealData) -> SyntheticSet:
        """Return the set as dcond has it: pixels, class-major, with the normalisation networks are to see.

        An artefact of dcond is so already; its classes are brought in the data set's order.

        Args:
            content: what :meth:`read` returned.
            real: the data set it is tested on.

        Raises:
            DataError: labels, classes or image size are not those of the data set.
            UnsupportedError: the normalisation, the factor or the kind of labels cannot be known;
                says what to pass.
        """
        if isinstance(content, SyntheticSet):
            return self._named(in_class_order(Path(self.path), content, real))
        mean, std = (
            None if values is None else tuple(map(float, values))
            for values in (self.mean, self.std)
        )
        statistics = None if mean is None or std is None else (mean, std)
        normalised = True if statistics else self.normalised
        reading = ReadOptions(
            normalised, self.zca, self.factor, self.logits, statistics, self.option
        )
        synthetic, words = fit(content, reading, real)
        log.info("%s: read as %s", content.path, words)
        return self._named(synthetic)

    def _named(self, synthetic: SyntheticSet) -> SyntheticSet:
        if self.method is None:
            return synthetic
        return replace(synthetic, metadata=synthetic.metadata | {"method": self.method})
