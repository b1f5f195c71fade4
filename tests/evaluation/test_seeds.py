"""Seeds of the networks: independent of the set, of the pool and of other repeats."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from dcond.augment import DiffAug
from dcond.models import MLP
from helpers.watched import evaluate, quick, same, watched


def test_repeats_and_networks_have_separate_seeds(toy, chosen):
    one, two = watched("one"), watched("two")
    evaluate(quick(), chosen, toy, one, two)
    starts = [start for recipe in (one, two) for _, start in recipe.built]
    assert len(starts) == 4
    assert not any(same(starts[i], starts[j]) for i in range(4) for j in range(i))


def test_networks_of_a_repeat_start_from_the_same_weights_on_any_set(toy, chosen):
    """Paired comparison: the same weights, and the same order of images for sets of equal size."""
    other = replace(chosen, images=1 - chosen.images)
    recipes = [watched(), watched()]
    for recipe, synthetic in zip(recipes, (chosen, other), strict=True):
        evaluate(quick(), synthetic, toy, recipe)
    for (trained, start), (trained_too, start_too) in zip(
        recipes[0].built, recipes[1].built, strict=True
    ):
        assert same(start, start_too)
        assert not same(trained.state_dict(), trained_too.state_dict())


def test_a_network_does_not_depend_on_the_rest_of_the_pool(toy, chosen):
    alone = evaluate(quick(), chosen, toy, watched("one"))
    among = evaluate(quick(), chosen, toy, watched("two"), watched("one"))
    assert alone.networks["one"].accuracies == among.networks["one"].accuracies


def test_the_seed_decides_everything(toy, chosen):
    settings = {"augment": DiffAug(["color", "crop", "cutout"]), "cutmix_p": 0.5, "epochs": 3}
    finals = []
    for seed in (0, 0, 1):
        recipe = watched()
        torch.manual_seed(len(finals))  # the global generator has no say
        evaluate(quick(**settings), chosen, toy, recipe, seed=seed)
        finals.append([network.state_dict() for network, _ in recipe.built])
    assert all(same(a, b) for a, b in zip(finals[0], finals[1], strict=True))
    assert not any(same(a, b) for a, b in zip(finals[0], finals[2], strict=True))


@dataclass(frozen=True, kw_only=True)
class Dropping(MLP):
    """An MLP with dropout in front."""

    def module(self, spec):
        network = super().module(spec)
        network.register_forward_pre_hook(lambda own, x: F.dropout(x[0], 0.5, own.training))
        return network


def test_a_network_with_dropout_is_reproducible(toy, chosen):
    """Dropout draws from PyTorch's global generator, whose state is restored."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        protocol = quick(epochs=2, repeats=5, stack=False)
        found.append(
            evaluate(protocol, chosen, toy, Dropping(name="MLP", hidden=(12,), lr=0.05)).networks[
                "MLP"
            ]
        )
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0].accuracies == found[1].accuracies
    assert len(set(found[0].accuracies)) > 1


def test_more_repeats_leave_the_first_ones_unchanged(toy, chosen):
    few, many = (
        evaluate(quick(repeats=r), chosen, toy, watched()).networks["MLP"].accuracies
        for r in (2, 4)
    )
    assert many[:2] == few
    assert len(many) == 4
