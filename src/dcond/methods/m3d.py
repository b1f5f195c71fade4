"""M3D: condensation by minimising the maximum mean discrepancy."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from dcond.augment import DiffAug
from dcond.errors import whole_number
from dcond.matching.batches import (
    decoded_by_class,
    image_gradient,
    real_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.engine import Engine
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.mmd import get_kernel, mmd
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.training.image_optim import PixelSweep, check_sweep_settings
from dcond.types import RealData, SyntheticSet


@dataclass
class M3DState:
    """The current random network, its features, how often it was used, and the pixel optimiser."""

    network: Network
    features: ClassFeatureMatching
    uses: int
    pixels: PixelSweep
    rng: Streams

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved."""
        return {
            "network": self.network.state_dict(),
            "uses": self.uses,
            "pixels": self.pixels.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.uses = state["uses"]
        self.pixels.load_state_dict(state["pixels"])


@dataclass(frozen=True, kw_only=True)
class M3D:
    """Match all moments of every class's features through a characteristic kernel, under random networks.

    L = Σ_c mean K(S_c, S_c) - 2 mean K(S_c, B_c) + mean K(B_c, B_c)     (biased, diagonal included, bandwidth detached)

    Paper: Zhang et al., M3D: Dataset condensation by minimizing maximum mean discrepancy, arXiv
    2312.15927. Differs from the public loop: it takes one SGD step per class on one shared tensor,
    so that a class's images coast on their momentum while the others step; see
    :class:`~dcond.training.image_optim.PixelSweep` for that and for ``sweep="joint"``. Images are
    projected to [0, 1] after every update (the public code clips before each sweep only).

    Args:
        network: recipe of φ, never trained.
        engine: how features are computed.
        augment: Siamese augmentation, one draw per class for real and synthetic together; None for
            none.
        steps: sweeps over the classes.
        lr: of the images, in units of ``space``, times ipc (the published settings at 28 and 32 px:
            lr = 1).
        momentum: of the images.
        kernel: gaussian, linear, poly2 or gauss_fixed (:mod:`dcond.matching.mmd`).
        batch_real: real images per class and step.
        batch_synthetic: decoded images per class and step at most; a random subset where there are
            more.
        factor: multi-formation factor.
        steps_per_network: steps before a new random network is drawn.
        sweep: "joint", all classes at once, or "sequential", the public loop.
        space, pixel_box: see :class:`~dcond.training.image_optim.PixelSGD`.
    """

    shares_classes: ClassVar = True

    network: Recipe
    engine: Engine
    augment: DiffAug | None
    steps: int
    lr: float
    kernel: str = "gaussian"
    momentum: float = 0.5
    batch_real: int = 128
    batch_synthetic: int = 200
    factor: int = 2
    steps_per_network: int = 5
    sweep: str = "joint"
    space: str = "pixel"
    pixel_box: str = "project"

    def __post_init__(self) -> None:
        check_sweep_settings(self)
        get_kernel(self.kernel)  # an unknown kernel fails here
        for name in ("steps", "batch_real", "batch_synthetic", "factor", "steps_per_network"):
            whole_number(f"method.{name}", getattr(self, name))

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> M3DState:
        """Draw the first network and make the pixel optimiser."""
        network = self.network.build(real.spec, rng.networks, real.device).requires_grad_(False)
        features = self.engine.features(
            network, real.spec, self.steps * len(real.class_names) * self.batch_real
        )
        return M3DState(network, features, 0, PixelSweep(self, synthetic), rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: M3DState) -> dict[str, Tensor]:
        """Do one sweep over all classes."""
        rng = state.rng
        if state.uses == self.steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random φ
            state.uses = 0
        state.uses += 1
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        state.pixels.advance()
        losses, gradient = self._match(batch, synthetic, state)
        state.pixels.step(gradient)
        state.pixels.project()
        return {"loss": losses.sum()}

    def _match(
        self, batch: RealBatch, synthetic: SyntheticSet, state: M3DState
    ) -> tuple[Tensor, Tensor]:
        """Return the discrepancy of every class, (k,), and the gradient of their sum with respect to the images."""
        rng = state.rng
        images = subset_per_class(
            decoded_by_class(synthetic), self.batch_synthetic, rng.synthetic
        )  # S_c
        batch, images = siamese_augment(
            self.augment, batch, synthetic.spec.normalise(images), rng.augmentation
        )  # ω per class
        discrepancy = partial(mmd, kernel=get_kernel(self.kernel))
        losses, towards = state.features.match(batch, images, discrepancy)
        return losses, image_gradient(
            synthetic, images, towards
        )  # through augmentation and decoding
