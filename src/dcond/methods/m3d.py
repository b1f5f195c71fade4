"""M3D: condensation by minimising the maximum mean discrepancy."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from dcond.errors import require
from dcond.matching.batches import image_gradient, real_by_class, siamese_views
from dcond.matching.feature_matching import ClassFeatureMatching, class_means
from dcond.matching.mmd import KernelName, get_kernel, mmd
from dcond.matching.target_bank import TargetBank
from dcond.methods.base import MatchingSettings, SavedState
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import PositiveFloat, PositiveInt, settings
from dcond.training.image_optim import PixelSweep, Space, Sweep
from dcond.types import RealData, SyntheticSet


@dataclass
class M3DState(SavedState):
    """The current random network, its features, and the optimiser of the images."""

    not_saved: ClassVar = ("features", "rng")

    network: Network
    features: ClassFeatureMatching
    bank: TargetBank
    network_steps: int  # image steps under this network
    pixels: PixelSweep
    rng: Streams


@settings
class M3D(MatchingSettings):
    """Match all moments of every class's features by a characteristic kernel, on random networks.

    L = Σ_c mean K(S_c, S_c) - 2 mean K(S_c, B_c) + mean K(B_c, B_c)

    (biased: the diagonals are included; the bandwidth carries no gradient)

    Paper: Zhang et al., M3D: Dataset condensation by minimizing maximum mean discrepancy, arXiv
    2312.15927. Differs from the public loop: that takes one SGD step per class on one shared
    tensor, so a class's images keep moving by their momentum while the other classes step; see
    :class:`~dcond.training.image_optim.PixelSweep` for this loop and for ``sweep="joint"``. Images
    are projected to [0, 1] after every update (the public code clips before each sweep only).

    Args:
        network: recipe of φ, never trained.
        lr: learning rate of the images, in units of ``space``, times ipc (the published settings at
            28 and 32 px: lr = 1).
        kernel: "gaussian", "linear", "poly2" or "gauss_fixed" (:mod:`dcond.matching.mmd`).
        batch_real: real images per class and step.
        batch_synthetic: maximum of decoded images per class and step; a random subset if there are
            more.
        targets: real targets that are used in turn, see
            :class:`~dcond.matching.target_bank.TargetBank`; None for new ones in every step, as
            published.
        factor: multi-formation factor.
        steps_per_network: steps before a new random network is drawn.
        sweep: "joint" for all classes at once, "sequential" for the public loop.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`.
    """

    network: Recipe
    lr: PositiveFloat
    kernel: KernelName = "gaussian"
    batch_real: PositiveInt = 128
    batch_synthetic: PositiveInt = 200
    targets: PositiveInt | None = None
    factor: PositiveInt = 2
    steps_per_network: PositiveInt = 5
    sweep: Sweep = "joint"
    space: Space = "pixel"

    def __post_init__(self) -> None:
        require(
            self.targets is None or self.targets % self.steps_per_network == 0,
            f"method.targets={self.targets} is not a multiple of method.steps_per_network="
            f"{self.steps_per_network}; use a multiple, or method.targets=null for no bank.",
        )

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> M3DState:
        """Draw the first network and make the optimiser of the images."""
        bank = TargetBank(self.targets, rng)
        network = self.network.build(real.spec, bank.streams(0).networks, real.device)
        network.requires_grad_(False)
        classes = len(real.class_names)
        theirs = bank.computed(self.steps) * classes * self.batch_real
        decoded = min(synthetic.ipc * self.factor**2, self.batch_synthetic)
        ours = self.steps * classes * decoded
        features = self.engine.features(network, real.spec, theirs, ours, bank)
        return M3DState(network, features, bank, 0, PixelSweep(self, synthetic), rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: M3DState) -> dict[str, Tensor]:
        """Do one sweep over all classes."""
        rng = state.bank.next_step()
        if state.network_steps == self.steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random φ
            state.network_steps = 0
        state.network_steps += 1
        state.pixels.advance()
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        # A_ω(B_c), A_ω(S_c)
        views, images = siamese_views(self.augment, batch, synthetic, rng, self.batch_synthetic)
        discrepancy = partial(mmd, kernel=get_kernel(self.kernel))
        summary = class_means if self.kernel == "linear" else None
        # L_c, ∂L/∂A_ω(S)
        losses, gradient = state.features.match(views, images, discrepancy, summary=summary)
        state.pixels.step(image_gradient(synthetic, images, gradient))
        state.pixels.project()
        return {"loss": losses.sum()}
