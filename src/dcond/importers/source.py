"""Where a synthetic set is read from, and how: ``synthetic=FILE synthetic.OPTION=...``."""

import logging
import os
from dataclasses import fields, replace
from pathlib import Path

from dcond import artefact
from dcond.class_matching import in_class_order
from dcond.errors import ConfigError, require
from dcond.importers import dc
from dcond.importers.convert import ReadOptions, convert
from dcond.importers.detect import load_any
from dcond.importers.raw_set import RawSet
from dcond.paths import expand_home
from dcond.settings import NonNegativeInt, settings
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

# One of these is in the folder of every run, finished or not.
RUN_FILES = (artefact.NAME, "result.json", "run.lock")


def is_artefact(path: Path) -> bool:
    """Return whether a path is read as a dcond artefact; a path that does not exist is."""
    if path.is_dir():
        return any((path / name).is_file() for name in RUN_FILES)
    return path.suffix == ".safetensors" or not path.exists()


def path_beside(source: Path, name: str) -> Path:
    """Return the default path of what is made from a set: in its run folder, or beside its file.

    A folder of another layout is left as it is: a new folder there would be a class of it.
    """
    if not source.is_dir():
        return source.parent / name
    if is_artefact(source):
        return source / name
    whole = Path(os.path.abspath(source))  # . has no name
    return whole.with_name(f"{whole.name}_{name}")


@settings
class Source(ReadOptions):
    """A file of any known layout, and what the file does not say. The constructor reads nothing.

    Args:
        path: a dcond artefact or its run folder, or a file or folder of a public layout.
        index: of the set in a file that holds several (DC, DSA, DM), from 0; None: the first.
        method: name of the set in tables; None: the file's, or the file name.

    Example:
        >>> source = Source(path="data.pt", factor=2)
        >>> synthetic = source.fitted(source.read(), real)
    """

    path: str
    index: NonNegativeInt | None = None
    method: str | None = None

    def read(self) -> SyntheticSet | RawSet:
        """Read the file; no code in it is run.

        Raises:
            ArtefactError: missing, damaged, of an unknown layout, or holding code.
            ConfigError: options for an artefact of dcond, which needs none.
        """
        path = expand_home(self.path)
        if not is_artefact(path):
            raw = load_any(path, self.index)
            require(
                not self.index or raw.layout == dc.LAYOUT,
                f"{self.option}.index={self.index} is out of range: {path} holds one set; allowed: "
                "0.",
            )
            return raw
        self.refuse_options(f"{path} is an artefact of dcond")
        return artefact.load(path)

    def refuse_options(self, what: str) -> None:
        """Raise :class:`ConfigError` if an option says how a file is read; ``what`` says why."""
        changed = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if needless := [name for name in changed if name not in ("path", "method", "option")]:
            keys = ", ".join(f"{self.option}.{name}" for name in needless)
            raise ConfigError(f"{what}, which needs no {keys}; remove it.")

    def fitted(self, content: SyntheticSet | RawSet, real: RealData) -> SyntheticSet:
        """Return the set as dcond uses it: pixels, class-major, with its normalisation.

        The classes are brought into the data set's order.

        Args:
            content: what :meth:`read` returned.
            real: the data set that it is tested on.

        Raises:
            DataError: labels, classes or image size are not those of the data set.
            UnsupportedError: the normalisation, the factor or the type of labels is unknown; the
                message says what to pass.
        """
        if isinstance(content, SyntheticSet):
            synthetic = in_class_order(Path(self.path), content, real)
        else:
            synthetic, description = convert(content, self, real)
            log.info("%s: read as %s", content.path, description)
        if self.method is None:
            return synthetic
        return replace(synthetic, metadata=synthetic.metadata | {"method": self.method})
