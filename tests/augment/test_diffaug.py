"""Draws: which families, which ranges, which generator; and that they are applied to the groups
they name.
"""

import pytest
import torch

from dcond.augment import DiffAug, Draw, Step, ops
from dcond.augment.diffaug import OPERATIONS
from dcond.errors import ConfigError

ALL = ("color", "crop", "cutout", "flip", "scale", "rotate")
SEEDS = range(4)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def families(draw):
    return [[step.family for step in stage] for stage in draw.stages]


def by_hand(x, draw):
    """Apply a draw group by group."""
    out = list(x)
    for stage in draw.stages:
        for step in stage:
            for i, group in enumerate(step.groups.tolist()):
                out[group] = OPERATIONS[step.family](
                    out[group][None], *(p[i : i + 1] for p in step.parameters)
                )[0]
    return torch.stack(out)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("mode", "shared"), [("single", False), ("single", True), ("idc", False), ("idc", True)]
)
def test_each_group_gets_its_own_operation_value_and_gradient(mode, shared, seed):
    augment = DiffAug(ALL, mode)
    draw = augment.draw(9, (8, 8), rng(seed), shared)
    x = images(9, 2, 3, 8, 8, seed=seed).requires_grad_()
    got, expected = augment.apply(x, draw), by_hand(x, draw)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weight = images(9, 2, 3, 8, 8, seed=seed + 100)
    slopes = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


def test_untouched_groups_pass_through():
    x = images(4, 1, 1, 8, 8)
    steps = (
        Step("flip", torch.tensor([2]), ()),
        Step("crop", torch.tensor([0]), (torch.tensor([1]), torch.tensor([0]))),
    )
    got = DiffAug(ALL).apply(x, Draw(4, (8, 8), (steps,)))
    assert torch.equal(got[[1, 3]], x[[1, 3]])
    assert torch.equal(got[2], x[2].flip(-1))
    assert torch.equal(got[0, ..., :7, :], x[0, ..., 1:, :])


def test_a_siamese_draw_treats_real_and_synthetic_images_alike():
    augment = DiffAug(ALL, "idc")
    draw = augment.draw(3, (8, 8), rng())
    x = images(3, 5, 3, 8, 8)
    torch.testing.assert_close(augment.apply(x, draw)[:, 1:3], augment.apply(x[:, 1:3], draw))


def test_single_chooses_one_family_for_each_group_uniformly():
    draw = DiffAug(ALL).draw(6000, (8, 8), rng())
    assert len(draw.stages) == 1
    counts = {step.family: len(step.groups) for step in draw.stages[0]}
    expected = dict.fromkeys(ALL, 1000) | {"flip": 500}  # half of the flips are none
    assert all(abs(counts[name] - expected[name]) < 120 for name in ALL)
    touched = torch.cat([step.groups for step in draw.stages[0]])
    assert len(touched.unique()) == len(touched)


def test_a_shared_family_is_one_for_all_groups_with_parameters_of_each():
    seen = set()
    for seed in range(40):
        ((step,),) = DiffAug(("color", "rotate"), "single").draw(8, (8, 8), rng(seed), True).stages
        assert step.groups.tolist() == list(range(8))
        assert len(step.parameters[0].unique()) == 8
        seen.add(step.family)
    assert seen == {"color", "rotate"}


def test_idc_mode_is_flip_colour_one_of_three_cutout_in_this_order():
    draw = DiffAug(("cutout", "rotate", "color", "scale", "flip", "crop"), "idc").draw(
        300, (8, 8), rng()
    )
    flip, color, moved, cutout = families(draw)
    assert (flip, color, cutout) == (["flip"], ["color"], ["cutout"])
    assert sorted(moved) == ["crop", "rotate", "scale"]
    assert sum(len(step.groups) for step in draw.stages[2]) == 300
    assert all(len(step.groups) > 70 for step in draw.stages[2])
    assert families(DiffAug(("crop", "cutout"), "idc").draw(3, (8, 8), rng())) == [
        ["crop"],
        ["cutout"],
    ]


def test_parameters_fill_their_ranges_and_no_more():
    def drawn(name, size):
        ((step,),) = DiffAug([name]).draw(4000, size, rng()).stages
        return [(values.min().item(), values.max().item()) for values in step.parameters]

    def near(low, high):
        return pytest.approx((low, high), abs=0.01)

    assert drawn("color", (28, 28)) == [near(-0.5, 0.5), near(0, 2), near(0.5, 1.5)]
    assert drawn("crop", (28, 64)) == [(-4, 4), (-8, 8)]
    assert drawn("cutout", (32, 28)) == [(-8, 24), (-7, 21), (16, 16), (14, 14)]
    assert drawn("cutout", (9, 9)) == [
        (-2, 6),
        (-2, 6),
        (5, 5),
        (5, 5),
    ]  # odd box: centred on a pixel
    assert drawn("scale", (28, 28)) == [near(1 / 1.2, 1.2)] * 2
    degree = torch.pi / 180
    assert drawn("rotate", (28, 28)) == [near(-15 * degree, 15 * degree)]
    ((flips,),) = DiffAug(["flip"]).draw(4000, (8, 8), rng()).stages
    assert 1900 < len(flips.groups) < 2100


def test_the_scale_factors_of_the_two_axes_are_independent():
    ((step,),) = DiffAug(["scale"]).draw(2000, (8, 8), rng()).stages
    assert torch.corrcoef(torch.stack(step.parameters))[0, 1].abs() < 0.1


def test_flip_false_takes_flip_out_and_leaves_the_rest():
    assert DiffAug(ALL, flip=False).ops == ("color", "crop", "cutout", "scale", "rotate")
    x = images(5, 1, 1, 8, 8)
    alone = DiffAug(["flip"], flip=False)
    assert torch.equal(alone.apply(x, alone.draw(5, (8, 8), rng())), x)


@pytest.mark.parametrize("mode", ["single", "idc"])
def test_an_empty_list_is_the_identity(mode):
    augment = DiffAug([], mode)
    x = images(4, 3, 8, 8)
    assert torch.equal(augment.per_image(x, rng()), x)


@pytest.mark.parametrize("mode", ["single", "idc"])
def test_the_passed_generator_is_the_only_source(mode):
    augment = DiffAug(ALL, mode)
    x = images(6, 3, 8, 8)
    before, kept = torch.get_rng_state(), x.clone()
    first, second, other = (augment.per_image(x, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(x, kept)


def test_per_image_draws_for_every_image_of_a_batch():
    x = images(1, 3, 8, 8).expand(6, 3, 8, 8)
    out = DiffAug(["color"]).per_image(x, rng())
    assert out.shape == x.shape
    assert len({tuple(image.flatten().tolist()) for image in out}) == 6


@pytest.mark.parametrize(("family", "kinds"), [("batch", 1), ("image", 3)])
def test_a_family_is_that_of_the_batch_or_of_each_image(family, kinds):
    """Also of several networks' batches at once, each with its own generator."""
    augment = DiffAug(["crop", "scale", "rotate"], family=family)
    batch = torch.rand(64, 1, 8, 8, generator=rng(5))
    for seed in range(3):
        drawn = augment.draw(64, (8, 8), rng(seed), shared_family=family == "batch")
        assert len(drawn.stages[0]) == kinds
        assert torch.equal(
            augment.per_image(batch, rng(seed)), augment.apply(batch[:, None], drawn)[:, 0]
        )
    both = augment.per_network(torch.stack([batch, batch]), [rng(1), rng(2)])
    assert torch.equal(both[0], augment.per_image(batch, rng(1)))
    assert torch.equal(both[1], augment.per_image(batch, rng(2)))


def test_per_image_agrees_with_the_operation_itself():
    x = images(4, 3, 8, 8)
    ((step,),) = DiffAug(["rotate"]).draw(4, (8, 8), rng(3), True).stages
    expected = ops.rotate(x[:, None], *step.parameters)[:, 0]
    assert torch.equal(DiffAug(["rotate"]).per_image(x, rng(3)), expected)


def test_a_draw_that_does_not_fit_is_refused():
    augment = DiffAug(["crop"])
    draw = augment.draw(3, (8, 8), rng())
    with pytest.raises(
        ValueError, match=r"3 groups of size \(8, 8\) does not fit \(2, 1, 1, 8, 8\)"
    ):
        augment.apply(images(2, 1, 1, 8, 8), draw)
    with pytest.raises(ValueError, match="does not fit"):
        augment.apply(images(3, 1, 1, 9, 8), draw)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ops": ["colour"]},
            "augment.ops='colour' is unknown; allowed: color, crop, .* Did you mean 'color'",
        ),
        ({"ops": "color_crop"}, "DiffAug.ops='color_crop' must be a list, in brackets"),
        ({"ops": ["crop", "crop"]}, r"augment.ops=\['crop', 'crop'\] names a family twice"),
        (
            {"ops": [], "mode": "singel"},
            "DiffAug.mode='singel' is unknown; .* Did you mean 'single'",
        ),
        (
            {"ops": [], "brightness": -1},
            "DiffAug.brightness=-1 is out of range; allowed: numbers from 0",
        ),
        (
            {"ops": [], "crop": 1.5},
            r"DiffAug.crop=1.5 is out of range; allowed: numbers from 0, up to 1",
        ),
        ({"ops": [], "scale": 0.8}, "DiffAug.scale=0.8 is out of range; allowed: numbers from 1"),
        (
            {"ops": [], "rotate": -3},
            "DiffAug.rotate=-3 is out of range; allowed: numbers from 0",
        ),
    ],
)
def test_a_wrong_setting_is_named_when_made(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DiffAug(**arguments)


@pytest.mark.parametrize("mode", ["single", "idc"])
def test_a_part_of_a_draw_is_the_draw_of_its_groups(mode):
    augment = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"], mode=mode)
    x = torch.randn(9, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    draw = augment.draw(9, (8, 8), torch.Generator().manual_seed(1))
    assert draw.part(0, 9) is draw
    whole = augment.apply(x, draw)
    for begin, end in ((0, 1), (2, 7), (8, 9)):
        torch.testing.assert_close(
            augment.apply(x[begin:end], draw.part(begin, end)), whole[begin:end]
        )
