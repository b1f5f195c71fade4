"""Selection: the synthetic set consists of chosen real images."""

import torch

from dcond.init import FromReal, Rule
from dcond.init.initialisers import check_ipc
from dcond.methods.base import NoState, NoSteps
from dcond.rng import Streams
from dcond.settings import PositiveInt, settings
from dcond.types import RealData, SyntheticSet


@settings
class Selection(NoSteps):
    """Choose real images by a rule (random, herding, k-center or k-means); nothing is optimised.

    Args:
        rule: the images of each class (see :mod:`dcond.init.rules`).
        factor: f; f > 1 chooses f² times as many images and stores them shrunken.
        steps: always 0.
    """

    rule: Rule
    factor: PositiveInt = 1

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> NoState:
        """Choose the images and store them in ``synthetic``.

        Raises:
            DataError: a class has fewer than ipc images.
        """
        check_ipc(real, synthetic.ipc)
        chosen = FromReal(rule=self.rule)(real, synthetic.ipc, self.factor, rng)  # may train
        with torch.no_grad():
            synthetic.images.copy_(chosen)
        return NoState()
