"""DM: distribution matching."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from dcond.augment import DiffAug
from dcond.errors import whole_number
from dcond.matching.batches import decoded_by_class, image_gradient, real_by_class, siamese_augment
from dcond.matching.engine import Engine
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.moments import mean_distance
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.training.image_optim import PixelSGD, check_pixel_settings
from dcond.types import RealData, SyntheticSet


@dataclass
class DMState:
    """The network, its features and the pixel optimiser between two steps."""

    network: Network
    features: ClassFeatureMatching
    pixels: PixelSGD
    rng: Streams

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved: the network is drawn anew in every step."""
        return {"pixels": self.pixels.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.pixels.load_state_dict(state["pixels"])


@dataclass(frozen=True, kw_only=True)
class DM:
    """Match the mean feature of every class under a new random network in every step.

    L = Σ_c ‖ mean φ(A_ω(B_c)) - mean φ(A_ω(S_c)) ‖²

    Paper: Zhao and Bilen, Dataset condensation with distribution matching, arXiv 2110.04181,
    equation 6. Code: github VICO-UoE/DatasetCondensation, main_DM.py. Differs: all classes go
    through the network together (the loss is the same sum), any ipc, images kept in [0, 1] by
    default.

    Args:
        network: recipe of φ; the random networks are never trained.
        engine: how features are computed.
        augment: Siamese augmentation; None for none.
        steps: image updates.
        lr, momentum: of the images, in units of ``space``.
        batch_real: real images per class and step.
        factor: multi-formation factor.
        space, pixel_box: see :class:`~dcond.training.image_optim.PixelSGD`.
    """

    shares_classes: ClassVar = True

    network: Recipe
    engine: Engine
    augment: DiffAug | None
    steps: int
    lr: float
    momentum: float = 0.5
    batch_real: int = 256
    factor: int = 1
    space: str = "normalised"
    pixel_box: str = "project"

    def __post_init__(self) -> None:
        check_pixel_settings(self.lr, self.momentum, self.space, self.pixel_box)
        for name in ("steps", "batch_real", "factor"):
            whole_number(f"method.{name}", getattr(self, name))

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> DMState:
        """Make a network and the pixel optimiser."""
        network = self.network.build(real.spec, rng.networks, real.device).requires_grad_(False)
        features = self.engine.features(
            network, real.spec, self.steps * len(real.class_names) * self.batch_real
        )
        return DMState(network, features, PixelSGD.of(self, synthetic), rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: DMState) -> dict[str, Tensor]:
        """Do one update of all classes."""
        rng = state.rng
        self.network.reset(state.network, real.spec, rng.networks)  # a new random φ
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        images = real.spec.normalise(decoded_by_class(synthetic))  # S_c
        batch, images = siamese_augment(
            self.augment, batch, images, rng.augmentation
        )  # ω per class
        losses, towards = state.features.match(batch, images, mean_distance)
        state.pixels.step(
            image_gradient(synthetic, images, towards)
        )  # through augmentation and decoding
        state.pixels.project()
        return {"loss": losses.sum()}
