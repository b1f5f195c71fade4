"""Spatial-semantic decomposition, layer mixing, mutual distillation: the public code's values, and
what must hold.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dcond.matching.alignment import Alignment, links, mix, mixing_weights, stack
from dcond.models import MLP, ConvNet, ResNet, ViT
from dcond.rng import generator
from dcond.types import Features, ImageSpec

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "hmdc.npz", allow_pickle=False)
PRECISION = [(torch.float64, 1e-9), (torch.float32, 1e-5)]
CASES = ["short1", "long1", "tie", "zero"]
SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPES = {
    "cnn": ConvNet(name="cnn", width=6),
    "vit": ViT(name="vit", depth=4, width=8, heads=2),
    "resnet": ResNet(name="resnet", blocks=(1, 1), width=4),
    "mlp": MLP(name="mlp", hidden=(8, 8, 8)),
}


def golden(name, dtype=torch.float64):
    return torch.tensor(GOLDEN[name], dtype=dtype)


def close(got, name, tolerance):
    wanted = golden(name)
    return (
        float((got.detach().double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
        < tolerance
    )


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed, "noise"), dtype=dtype)


def features(*names, count=4):
    x = noise(count, 1, 8, 8, dtype=torch.float32)
    return [RECIPES[name].build(SPEC, generator(0, name)).features(x) for name in names]


def aligned(logits, dtype, widths=((6,), (6,)), size=(2, 2)):
    """An alignment of two networks under the public code's softmax, with its logits (L1, L2) put
    in.
    """
    counts = logits.shape
    made = Alignment(
        [tuple(w) * (n if len(w) == 1 else 1) for w, n in zip(widths, counts, strict=True)],
        size,
        axis="target",
    )
    value = logits if made.links == [(0, 1)] else logits.T
    made.logits[0] = torch.nn.Parameter(value.to(dtype).clone())
    return made.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize("case", CASES)
def test_mixing_is_the_public_codes_under_its_axis(case, dtype, tolerance):
    first, second = (golden(f"mix_{case}_f{i}", dtype).requires_grad_() for i in (1, 2))
    alignment = aligned(golden(f"mix_{case}_logits", dtype), dtype)
    weights = mixing_weights(alignment.logits[0], "target")
    assert close(weights, f"mix_{case}_weights", tolerance)
    source = alignment.links[0][0]
    assert close(
        mix([first, second][source], alignment.logits[0], "target"),
        f"mix_{case}_out{source + 1}",
        tolerance,
    )
    loss = alignment.distance([first, second])
    assert close(loss, f"mix_{case}_md", tolerance)
    found = torch.autograd.grad(loss, [alignment.logits[0], first, second])
    logits = found[0] if alignment.links == [(0, 1)] else found[0].T
    assert close(logits, f"mix_{case}_grad_logits", tolerance)
    assert close(found[1], f"mix_{case}_grad_f1", tolerance)
    assert close(found[2], f"mix_{case}_grad_f2", tolerance)


def public_taps(kind, dtype):
    """The stored taps as leaves, and as features."""
    if kind == "cnn":
        maps = [golden(f"ssd_cnn_tap{i}", dtype).requires_grad_() for i in range(3)]
        return maps, [Features(tap.mean((2, 3)), tap) for tap in maps]
    tokens = [golden(f"ssd_vit_tap{i}", dtype).requires_grad_() for i in range(5)]
    grids = [x[:, 1:].mT.reshape(2, 7, 3, 3) for x in tokens]
    return tokens, [Features(x[:, 0], grid) for x, grid in zip(tokens, grids, strict=True)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize("order", [("cnn", "vit"), ("vit", "cnn")])
def test_decomposition_is_the_public_codes(order, dtype, tolerance):
    prefix = "ssd_" + "_".join(order)
    leaves, taps = {}, {}
    for kind in order:
        leaves[kind], taps[kind] = public_taps(kind, dtype)
    widths = [[tap.semantic.shape[1] for tap in taps[kind]] for kind in order]
    alignment = aligned(golden(f"{prefix}_logits", dtype), dtype, widths)
    for kind, maps in zip(order, alignment.maps, strict=True):
        for i, linear in enumerate(maps):
            for part in ("weight", "bias"):
                setattr(
                    linear, part, torch.nn.Parameter(golden(f"ssd_proj_{kind}{i}_{part}", dtype))
                )
    stacks = alignment.stacks([taps[kind] for kind in order])
    assert close(stacks[0], f"{prefix}_stack1", tolerance)
    assert close(stacks[1], f"{prefix}_stack2", tolerance)
    loss = alignment([taps[kind] for kind in order])
    assert close(loss, f"{prefix}_md", tolerance)
    if order == ("cnn", "vit"):  # the order whose gradients are stored
        loss.backward()
        assert close(alignment.logits[0].grad.T, "ssd_grad_logits", tolerance)
        for kind, maps in zip(order, alignment.maps, strict=True):
            for i, linear in enumerate(maps):
                assert close(leaves[kind][i].grad, f"ssd_grad_{kind}_tap{i}", tolerance)
                assert close(linear.weight.grad, f"ssd_grad_proj_{kind}{i}_weight", tolerance)
                assert close(linear.bias.grad, f"ssd_grad_proj_{kind}{i}_bias", tolerance)


@pytest.mark.parametrize("pair", list(combinations(RECIPES, 2)), ids="-".join)
def test_stacks_of_any_pair_have_one_grid_and_one_width(pair):
    taps = features(*pair)
    alignment = Alignment.of(taps, axis="source", form="mean")
    stacks = alignment.stacks(taps)
    width = min(tap.spatial.shape[1] for network in taps for tap in network)
    positions = 1 + min(tap.spatial.shape[2] for network in taps for tap in network) ** 2
    assert [tuple(s.shape) for s in stacks] == [
        (4, len(network), positions, width) for network in taps
    ]
    assert alignment(taps).shape == ()


def test_stacks_of_the_papers_pair_have_the_papers_shapes():
    """ConvNet-3 of width 128 and a ViT of 12 blocks, width 192 and patches of 4, at 32 px: d = 128,
    s = 4 x 4.
    """
    spec = ImageSpec(3, 32, 32, 10, (0.5,) * 3, (0.25,) * 3)
    recipes = [
        ConvNet(name="ConvNet", depth=3, width=128),
        ViT(name="ViT", patch=4, depth=12, width=192, heads=3),
    ]
    with torch.no_grad():
        taps = [
            recipe.build(spec, generator(0, recipe.name)).features(torch.zeros(2, 3, 32, 32))
            for recipe in recipes
        ]
    alignment = Alignment.of(taps, axis="source", form="mean")
    assert [tuple(tap.spatial.shape) for tap in taps[0]] == [
        (2, 128, 16, 16),
        (2, 128, 8, 8),
        (2, 128, 4, 4),
    ]
    assert [tuple(tap.spatial.shape) for tap in taps[1]] == [(2, 192, 8, 8)] * 12
    assert [tuple(tap.semantic.shape) for tap in taps[0]] == [(2, 128)] * 3
    assert [tuple(tap.semantic.shape) for tap in taps[1]] == [(2, 192)] * 12
    convnet, vit = alignment.stacks(taps)
    assert tuple(convnet.shape) == (2, 3, 17, 128)
    assert tuple(vit.shape) == (2, 12, 17, 128)
    assert alignment.links == [(1, 0)]
    assert [tuple(logits.shape) for logits in alignment.logits] == [(12, 3)]
    assert tuple(mix(vit, alignment.logits[0], "source").shape) == (2, 3, 17, 128)


@pytest.mark.parametrize(("axis", "dim"), [("source", 0), ("target", 1)])
def test_mixing_weights_sum_to_one_along_their_axis(axis, dim):
    weights = mixing_weights(noise(12, 4), axis)
    torch.testing.assert_close(
        weights.sum(dim), torch.ones(weights.shape[1 - dim], dtype=torch.float64)
    )


def test_at_the_start_a_mixed_tap_is_the_mean_of_all():
    torch.testing.assert_close(
        mixing_weights(torch.zeros(12, 4), "source"), torch.full((12, 4), 1 / 12)
    )


@pytest.mark.parametrize("form", ["mean", "pairwise"])
@pytest.mark.parametrize("pair", [("cnn", "vit"), ("resnet", "vit"), ("cnn", "mlp")], ids="-".join)
def test_swapping_the_pair_leaves_the_loss_equal(pair, form):
    taps = features(*pair)
    one = Alignment.of(taps, axis="source", form=form)
    other = Alignment.of(taps[::-1], axis="source", form=form)
    torch.nn.init.normal_(one.logits[0], generator=generator(1, "logits"))
    other.logits.load_state_dict(one.logits.state_dict())  # of the source, whichever place it has
    for mine, theirs in zip(one.maps, reversed(other.maps), strict=True):
        theirs.load_state_dict(mine.state_dict())
    torch.testing.assert_close(one(taps), other(taps[::-1]))


@pytest.mark.parametrize("form", ["mean", "pairwise"])
def test_identical_features_are_at_distance_zero(form):
    """Under one map; with zero logits the mix averages the layers, so the logits pick each layer
    itself.
    """
    taps = features("vit")[0]
    alignment = Alignment.of([taps, taps, taps], axis="source", form=form)
    for maps in alignment.maps:
        maps.load_state_dict(alignment.maps[0].state_dict())
    assert float(alignment([taps, taps, taps]).detach()) > 1e-4
    for logits in alignment.logits:
        logits.data = 1e4 * torch.eye(len(taps))
    assert float(alignment([taps, taps, taps]).detach()) < 1e-12


@pytest.mark.parametrize("axis", ["source", "target"])
def test_the_mean_form_is_the_mean_over_all_pairs_of_what_is_mixed_to_the_fewest_taps(axis):
    stacks = [noise(2, taps, 5, 6, seed=taps) for taps in (5, 3, 7)]
    alignment = Alignment([[6] * 5, [6] * 3, [6] * 7], (2, 2), axis=axis).double()
    for i, logits in enumerate(alignment.logits):
        logits.data = noise(*logits.shape, seed=i)
    weights = [mixing_weights(logits, axis) for logits in alignment.logits]
    first, third = (
        torch.stack([sum(w[s, t] * stacks[k][:, s] for s in range(len(w))) for t in range(3)], 1)
        for k, w in zip((0, 2), weights, strict=True)
    )
    pairs = [F.mse_loss(a, b) for a, b in combinations([first, stacks[1], third], 2)]
    torch.testing.assert_close(alignment.distance(stacks), sum(pairs) / 3)


def test_the_pairwise_form_is_the_mean_of_the_two_network_losses():
    stacks = [noise(2, taps, 5, 6, seed=taps) for taps in (5, 3, 7)]
    whole = Alignment([[6] * 5, [6] * 3, [6] * 7], (2, 2), form="pairwise").double()
    losses = []
    for logits, (i, j) in zip(whole.logits, combinations(range(3), 2), strict=True):
        pair = Alignment([[6] * stacks[i].shape[1], [6] * stacks[j].shape[1]], (2, 2)).double()
        logits.data = noise(*logits.shape, seed=i + j)
        pair.logits[0].data = logits.data
        losses.append(pair.distance([stacks[i], stacks[j]]))
    torch.testing.assert_close(whole.distance(stacks), sum(losses) / 3)


def test_the_network_with_more_taps_is_mixed_and_on_a_tie_the_earlier():
    for form in ("mean", "pairwise"):
        assert links([4, 12], form) == links([4, 4, 12][1:], form) == [(1, 0)]
        assert links([12, 4], form) == links([4, 4], form) == [(0, 1)]
    assert links([5, 3, 3, 7], "mean") == [(0, 2), (1, 2), (3, 2)]
    assert links([5, 3, 7], "pairwise") == [(0, 1), (2, 0), (2, 1)]


def test_positions_stand_row_by_row_behind_the_semantic_vector():
    spatial = torch.arange(6.0).view(1, 1, 2, 3)
    got = stack([Features(torch.full((1, 1), 9.0), spatial)], [torch.nn.Identity()], (2, 3))
    assert got.flatten().tolist() == [9, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("size", "wanted"), [((1, 1), [7.5]), ((1, 2), [6.5, 8.5]), ((2, 1), [3.5, 11.5])]
)
def test_a_grid_of_one_position_holds_the_mean_and_not_the_first_pixel(size, wanted):
    """As beside an MLP, whose features have no place, or a network that pools down to a single
    position.
    """
    spatial = torch.arange(16.0).view(1, 1, 4, 4)
    made = stack([Features(torch.zeros(1, 1), spatial)], [torch.nn.Identity()], size)
    assert made[0, 0, :, 0].tolist() == [0, *wanted]
