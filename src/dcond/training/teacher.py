"""A teacher: a network trained on the real training set whose soft labels students learn.

Every batch gets the teacher's labels softmax(z / T) after its augmentation, CutMix included, and
the student with logits s is trained on T²·CE(s / T, labels). Source: Hinton et al., arXiv
1503.02531. Labels are made for each augmented batch as in RDED's evaluation (arXiv 2312.03526),
which omits the factor T².
"""

import io
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dcond
from dcond.cache import cache_file, own_code, read_entry, write_entry
from dcond.data.fingerprint import fingerprint
from dcond.distributed import current
from dcond.models import Network, Recipe
from dcond.rng import generator
from dcond.settings import PositiveFloat, settings
from dcond.training.accuracy import at_chance
from dcond.training.on_real import finite, train_on_real
from dcond.training.schedule import Schedule, describe
from dcond.training.steps import SoftLabels
from dcond.types import ImageSpec, RealData, SyntheticSet

log = logging.getLogger(__name__)

CHUNK = 256  # images per pass
RELABELLED = " relabelled"  # follows the method's name


@dataclass(frozen=True, eq=False)
class TrainedTeacher:
    """A trained teacher.

    Args:
        network: the network, in eval mode.
        spec: shape and normalisation of the images it was trained on.
        temperature: T of its labels.
        facts: its entry in ``result.json``.
    """

    network: Network
    spec: ImageSpec
    temperature: float
    facts: dict[str, Any]

    def soft_labels(self, spec: ImageSpec) -> SoftLabels:
        """Return its labels for images normalised by ``spec``; it renormalises them by its own."""
        dtype = next(self.network.parameters()).dtype

        def logits(images: Tensor) -> Tensor:
            own = images if spec == self.spec else self.spec.normalise(spec.denormalise(images))
            values: Tensor = self.network(own.to(dtype))
            return values.to(images.dtype)

        return SoftLabels(logits, self.temperature)

    @torch.no_grad()
    def relabelled(self, synthetic: SyntheticSet) -> SyntheticSet:
        """Return a set with stored soft labels: the logits z / T, on the teacher's device.

        A stored image that holds several has the mean of their logits.
        """
        images, _ = synthetic.decoded()
        normalised, soft = synthetic.spec.normalise(images), self.soft_labels(synthetic.spec)
        logits = torch.cat([soft.logits(part) for part in normalised.split(CHUNK)])
        labels = logits.unflatten(0, (synthetic.factor**2, -1)).mean(0) / self.temperature
        method = synthetic.metadata.get("method", "unknown").removesuffix(RELABELLED)
        metadata = synthetic.metadata | {
            "method": f"{method}{RELABELLED}",
            "labelled_by": json.dumps(self.facts),
        }
        return replace(synthetic, labels=labels, logits=True, metadata=metadata)


@settings
class Teacher(Schedule):
    """How a teacher is trained, and the temperature of its labels.

    Args:
        network: recipe of the network.
        temperature: T by which logits are divided; larger values give softer labels.
        lr: learning rate; None for the network's own.
        seed: seed of the teacher, independent of the run's: all runs of a protocol share one.

    The other arguments are those of :class:`~dcond.training.schedule.Schedule`.
    """

    network: Recipe
    temperature: PositiveFloat = 4.0
    lr: PositiveFloat | None = None
    seed: int = 0

    def load_or_train(self, real: RealData, folder: Path) -> TrainedTeacher:
        """Return the teacher, trained on the real training images or read from the cache.

        Cached weights are used for the same settings (at any temperature), data set and version of
        dcond only.

        Args:
            real: the data set.
            folder: cache folder; created if missing.

        Raises:
            DivergedError: the weights became non-finite; nothing is cached.
        """
        file = self._file(real, folder)
        with current().first_before_others():  # the others read what rank 0 has cached
            network, facts = self._load_or_train(real, file)
        if at_chance(facts["accuracy"], len(real.class_names)):
            log.warning(
                "teacher %s: test accuracy %.1f %% is near chance (%.1f %%), so its labels carry "
                "little information; try another lr of the teacher, or more epochs",
                self.network.name,
                100 * facts["accuracy"],
                100 / len(real.class_names),
            )
        network.eval().requires_grad_(False)
        facts = {"temperature": self.temperature} | facts
        return TrainedTeacher(network, real.spec, self.temperature, facts)

    def is_cached(self, real: RealData, folder: Path) -> bool:
        """Return whether the cache folder has this teacher's weights, undamaged."""
        file = self._file(real, folder)
        return file.is_file() and self._read(real, file) is not None

    def _file(self, real: RealData, folder: Path) -> Path:
        own = describe(replace(self, network=self.network.by_content()), "temperature")
        key = f"{dcond.__version__}/{own}/{fingerprint(real)}{own_code(self.network)}"
        return cache_file(folder, f"teacher_{real.name}_{self.network.name}", key, ".pt")

    def _load_or_train(self, real: RealData, file: Path) -> tuple[Network, dict[str, Any]]:
        found = self._read(real, file)
        if found is not None:
            log.info("teacher %s: cached weights of %s", self.network.name, file)
            return found
        network = self._untrained(real)
        facts = self._train(network, real)
        buffer = io.BytesIO()
        torch.save({"weights": network.state_dict(), "facts": facts}, buffer)
        write_entry(file, buffer.getvalue(), "the teacher")
        return network, facts

    def _read(self, real: RealData, file: Path) -> tuple[Network, dict[str, Any]] | None:
        """Return the cached teacher and its facts; None if the file is missing or damaged."""
        network = self._untrained(real)
        return read_entry(file, lambda path: _load(path, network))

    def _untrained(self, real: RealData) -> Network:
        return self.network.build(real.spec, generator(self.seed, "teacher"), real.device)

    def _train(self, network: Network, real: RealData) -> dict[str, Any]:
        """Train the network and return its facts."""
        name = self.network.name
        log.info("teacher %s: %d epochs on %d real images", name, self.epochs, len(real.train))
        facts = train_on_real(
            self,
            network,
            real,
            lr=self.network.lr if self.lr is None else self.lr,
            seed=self.seed,
            stream="teacher",
            who=f"teacher {name}",
            setting="lr of the teacher",
        )
        log.info("teacher %s: test accuracy %.1f %%", name, 100 * facts["accuracy"])
        return {"network": name} | facts


def _load(file: Path, network: Network) -> tuple[Network, dict[str, Any]]:
    """Load cached weights into the network; return it and the facts.

    Raises:
        ValueError: the weights are not finite; other errors for a missing or damaged file.
    """
    content = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(content["weights"])
    facts: dict[str, Any] = dict(content["facts"])
    facts["accuracy"] = float(facts["accuracy"])
    if not finite(network):
        raise ValueError("weights are not finite")
    return network, facts
