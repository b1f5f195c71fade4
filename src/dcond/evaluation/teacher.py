"""A teacher: a network trained on the real training set, whose soft labels students of a synthetic set learn.

Every batch gets the teacher's softmax(z / T) after its augmentation, CutMix included, and the
student with logits s learns it by T²·CE(s / T, ·). Source: Hinton et al., arXiv 1503.02531; labels
on the fly, for each augmented batch, as RDED's evaluation (arXiv 2312.03526) makes them, which
leaves out the T².
"""

import hashlib
import io
import logging
import math
import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import dcond
from dcond.distributed import current
from dcond.errors import DivergedError, require
from dcond.evaluation.accuracy import accuracy
from dcond.evaluation.sanity_checks import at_chance
from dcond.evaluation.vmap_training import TrainingJob
from dcond.evaluation.whole import fingerprint, whole_set
from dcond.models import Network, Recipe
from dcond.paths import write_atomically
from dcond.rng import generator, seeded_layers
from dcond.training.schedule import Schedule
from dcond.training.steps import SoftLabels
from dcond.types import ImageSpec, RealData

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedTeacher:
    """A trained teacher.

    Args:
        network: in evaluation mode.
        spec: of the images it was trained on.
        temperature: of its labels.
        facts: what ``result.json`` says of it.
    """

    network: Network
    spec: ImageSpec
    temperature: float
    facts: dict[str, Any]

    def soft_labels(self, spec: ImageSpec) -> SoftLabels:
        """Return its labels of images that are normalised as ``spec`` says; it sees them by its own constants."""
        weights = next(self.network.parameters())

        def logits(images: Tensor) -> Tensor:
            own = images if spec == self.spec else self.spec.normalise(spec.denormalise(images))
            found: Tensor = self.network(own.to(weights.dtype))
            return found.to(images.dtype)

        return SoftLabels(logits, self.temperature)


@dataclass(frozen=True, kw_only=True)
class Teacher(Schedule):
    """How a teacher is trained, and how soft its labels are; the schedule's arguments are :class:`Schedule`'s.

    Args:
        network: what it is.
        temperature: T; logits are divided by it.
        lr: learning rate; None takes the network's own.
        seed: its own: every run, set and seed of one protocol learns from the same teacher.
    """

    where: ClassVar[str] = "teacher"

    network: Recipe
    temperature: float = 4.0
    lr: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.temperature > 0,
            f"teacher.temperature={self.temperature} is out of range; greater than 0.",
        )
        good = self.lr is None or 0 < self.lr < math.inf
        require(good, f"teacher.lr={self.lr} must be a number greater than 0, or null.")

    def load_or_train(self, real: RealData, folder: Path) -> TrainedTeacher:
        """Return the teacher, trained on the training images; its weights are kept in ``folder`` and used again.

        They are taken for the same settings but the temperature, the same data set and version of
        dcond only.

        Raises:
            DivergedError: its weights are no longer finite; nothing is kept.
        """
        settings = replace(self, network=self.network.by_content()).settings("temperature")
        key = f"{dcond.__version__}/{settings}/{fingerprint(real)}"
        file = (
            folder
            / f"teacher_{real.name}_{self.network.name}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
        )
        with current().first_before_others():  # the others find what the first has kept
            network, facts = self._kept_or_trained(real, file)
        if at_chance(facts["accuracy"], len(real.class_names)):
            log.warning(
                "teacher %s: test accuracy %.1f %% is near chance (%.1f %%), so its labels say next to nothing; "
                "try another teacher.lr, or more teacher.epochs",
                self.network.name,
                100 * facts["accuracy"],
                100 / len(real.class_names),
            )
        network.eval().requires_grad_(False)
        return TrainedTeacher(
            network, real.spec, self.temperature, {"temperature": self.temperature} | facts
        )

    def _kept_or_trained(self, real: RealData, file: Path) -> tuple[Network, dict[str, Any]]:
        network = self._untrained(real)
        facts = _read(file, network)
        if facts is None:
            network = self._untrained(real)  # what could not be read may have been read in part
            facts = self._train(network, real)
            _write({"weights": network.state_dict(), "facts": facts}, file)
        else:
            log.info("teacher %s: kept weights of %s", self.network.name, file)
        return network, facts

    def _untrained(self, real: RealData) -> Network:
        return self.network.build(real.spec, generator(self.seed, "teacher"), real.device)

    def _train(self, network: Network, real: RealData) -> dict[str, Any]:
        """Train the network and return what is to be told of it."""
        log.info(
            "teacher %s: %d epochs on %d real images",
            self.network.name,
            self.epochs,
            len(real.train),
        )
        start = time.perf_counter()
        lr = self.network.lr if self.lr is None else self.lr
        images, labels = TrainingJob(
            self.network, whole_set(real), self.seed, "teacher", lr
        ).inputs(real.device)
        rng = generator(self.seed, "teacher/batches")

        def check(epoch: int) -> None:
            if not _finite(network):
                raise DivergedError(
                    f"teacher {self.network.name}: its weights are not finite after epoch {epoch} of {self.epochs} "
                    f"(lr {lr:g}); try a smaller teacher.lr."
                )

        with seeded_layers(self.seed, "teacher", real.device):
            self.run(
                [{"params": list(network.parameters()), "lr": lr}],
                lambda optimiser: self.epoch(network, optimiser, images, labels, rng),
                check,
            )
        tested = accuracy(network, real.spec, real.test)
        log.info("teacher %s: test accuracy %.1f %%", self.network.name, 100 * tested)
        wall_s = time.perf_counter() - start
        told = {
            "network": self.network.name,
            "accuracy": tested,
            "lr": lr,
            "epochs": self.epochs,
            "seed": self.seed,
        }
        return told | {"wall_s": wall_s}


def _read(file: Path, network: Network) -> dict[str, Any] | None:
    """Load kept weights into the network; return what is kept beside them, or None where there are none to use."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(content["weights"])
        facts: dict[str, Any] = dict(content["facts"])
        facts["accuracy"] = float(facts["accuracy"])
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
    ):
        return None
    return facts if _finite(network) else None


def _finite(network: Network) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


def _write(content: dict[str, Any], file: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda path: _fill(path, buffer.getvalue()))
    except OSError as error:  # it is trained: the next run does so again
        log.warning("the teacher could not be kept in %s: %s", file, error.strerror or error)


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
