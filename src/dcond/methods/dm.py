"""DM: distribution matching."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dcond.matching.batches import image_gradient, real_by_class, siamese_views
from dcond.matching.feature_matching import ClassFeatureMatching, class_means
from dcond.matching.mmd import mean_distance
from dcond.matching.target_bank import TargetBank
from dcond.methods.base import MatchingSettings, SavedState
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import PositiveFloat, PositiveInt, settings
from dcond.training.image_optim import PixelSGD, Space
from dcond.types import RealData, SyntheticSet


@dataclass
class DMState(SavedState):
    """The random network, its features and the optimiser of the images."""

    not_saved: ClassVar = ("network", "features", "rng")  # the network is redrawn in every step

    network: Network
    features: ClassFeatureMatching
    bank: TargetBank
    pixels: PixelSGD
    rng: Streams


@settings
class DM(MatchingSettings):
    """Match the mean feature of every class, with a new random network in every step.

    L = Σ_c ‖ mean φ(A_ω(B_c)) - mean φ(A_ω(S_c)) ‖²

    Paper: Zhao and Bilen, Dataset condensation with distribution matching, arXiv 2110.04181,
    equation 6. Code: github VICO-UoE/DatasetCondensation, main_DM.py. Differs: all classes pass
    through the network together (the loss is the same sum), any ipc, images are projected to [0, 1]
    by default.

    Args:
        network: recipe of φ; the random networks are never trained.
        lr: learning rate of the images, in units of ``space``.
        batch_real: real images per class and step.
        targets: real targets that are used in turn, see
            :class:`~dcond.matching.target_bank.TargetBank`; None for new ones in every step, as
            published.
        factor: multi-formation factor.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`.
    """

    network: Recipe
    lr: PositiveFloat
    batch_real: PositiveInt = 256
    targets: PositiveInt | None = None
    factor: PositiveInt = 1
    space: Space = "normalised"

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> DMState:
        """Make the network and the optimiser of the images."""
        network = self.network.build(real.spec, rng.networks, real.device).requires_grad_(False)
        bank = TargetBank(self.targets, rng)
        theirs = bank.computed(self.steps) * len(real.class_names) * self.batch_real
        ours = self.steps * len(synthetic.images) * self.factor**2
        features = self.engine.features(network, real.spec, theirs, ours, bank)
        return DMState(network, features, bank, PixelSGD.of(self, synthetic), rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: DMState) -> dict[str, Tensor]:
        """Update the images of all classes once."""
        rng = state.bank.next_step()
        self.network.reset(state.network, real.spec, rng.networks)  # a new random φ
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        views, images = siamese_views(self.augment, batch, synthetic, rng)  # A_ω(B_c), A_ω(S_c)
        # L_c, ∂L/∂A_ω(S)
        losses, gradient = state.features.match(views, images, mean_distance, summary=class_means)
        state.pixels.step(image_gradient(synthetic, images, gradient))
        state.pixels.project()
        return {"loss": losses.sum()}
