"""Selection beyond the contract: what is stored, and that there is nothing to step."""

import pytest
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError, DataError
from dcond.init import Embedding, Herding, KCenter, KMeans, Random
from dcond.methods.selection import Selection
from dcond.models import MLP
from dcond.rng import Streams
from dcond.types import SyntheticSet

EMBEDDING = Embedding(network=MLP(name="MLP", hidden=(16,)), train_steps=3, batch=16)
RULES = {
    "random": Random(),
    **{rule.__name__: rule(embedding=EMBEDDING) for rule in (Herding, KCenter, KMeans)},
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def noise(real, ipc, factor) -> SyntheticSet:
    images = torch.rand(3 * ipc, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(3).repeat_interleave(ipc)
    return SyntheticSet(images, labels, real.class_names, ipc, real.mean, real.std, factor)


@every_rule
@pytest.mark.parametrize("factor", [1, 2])
def test_the_set_is_as_many_different_real_images_of_each_class_as_it_holds(rule, factor, toy):
    synthetic = noise(toy, 2, factor)
    Selection(rule=rule, factor=factor).init(toy, synthetic, Streams(0))
    side = 8 // factor
    real = F.interpolate(
        toy.pixels(torch.arange(120)), size=(side, side), mode="bilinear", antialias=True
    ).flatten(1)
    cells = (
        synthetic.images.unfold(2, side, side)
        .unfold(3, side, side)
        .reshape(6 * factor**2, side * side)
    )
    gap, rows = torch.cdist(cells, real, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert gap.max() < 1e-5
    assert len(rows.unique()) == 6 * factor**2
    assert torch.equal(toy.train.labels[rows], synthetic.labels.repeat_interleave(factor**2))


@every_rule
def test_the_rule_decides_which(rule, toy):
    synthetic = noise(toy, 4, 1)
    Selection(rule=rule).init(toy, synthetic, Streams(5))
    chosen = toy.pixels(torch.cat(rule(toy, 4, Streams(5))))
    assert torch.equal(synthetic.images, chosen)


def test_more_than_a_class_holds_is_refused(toy):
    with pytest.raises(
        DataError, match=r"ipc=31 needs 31 images per class; class 'right' of toy has 30\."
    ):
        Selection(rule=Random()).init(toy, noise(toy, 31, 1), Streams(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 5}, "Selection.steps=5 must be 0."),
        ({"factor": 0}, "Selection.factor=0 is out of range; allowed: whole numbers from 1."),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        Selection(rule=Random(), **settings)
    assert str(error.value) == message
