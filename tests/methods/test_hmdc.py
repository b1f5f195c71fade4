"""HMDC: what a step is made of, its switches, and the single network it reduces to."""

import dataclasses

import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching.distances import squared
from dcond.matching.engine import Engine
from dcond.methods import hmdc as module
from dcond.methods.hmdc import HMDC
from dcond.models import MLP, ConvNet, Pool, Timm
from dcond.rng import Streams
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening
from helpers.one_step import step_once

EXACT = Engine(precision="float32", compile=False, classes=1)
ONE = "pool@learners=convnet"
THREE = "pool@learners=convnet_resnet_vit"
POOL = Pool(networks={"C": ConvNet(name="C", width=4), "M": MLP(name="M", hidden=(8, 8))})


def test_one_network_is_plain_gradient_matching(parts, run_made, toy, tmp_path):
    """One step against the loss of class gradients alone, from the same streams."""
    plain = {
        "cutmix_real": 0,
        "cutmix_synthetic": 0,
        "real_selection": "random",
        "unit_gradients": False,
        "factor": 1,
    }
    made = parts("hmdc", ONE, "init=real", "augment=none", steps=1, lr=0.5, **plain)
    got = run_made(made, toy, tmp_path / "run")
    rng = Streams(0)
    first = made.start(toy, 2, 1, rng)
    assert torch.equal(first, got.first)
    network = made.method.pool.networks["ConvNet"].build(toy.spec, rng.networks)
    rows = toy.draw_per_class(made.method.batch_real, rng.real)
    batch = toy.normalised(rows.flatten()).view(3, -1, 1, 8, 8)
    images = toy.spec.normalise(first).view(3, 2, 1, 8, 8)
    found = EXACT.bind(network, toy.spec, 0).match(batch, images, squared)
    assert got.losses == pytest.approx([float(found.within.sum())])
    wanted = (first - 0.5 * 0.22 * found.gradient.flatten(0, 1)).clamp(
        0, 1
    )  # normalised units: pixels move by std · lr
    torch.testing.assert_close(got.synthetic.images.detach(), wanted)


def test_one_network_needs_neither_balance_nor_distillation(condense, toy):
    with_both = condense("hmdc", toy, ONE, steps=4)
    without = condense("hmdc", toy, ONE, "method.gbm=false", "method.distillation=none", steps=4)
    assert with_both.bytes == without.bytes


def test_every_switch_changes_the_images(parts, run_made, toy, tmp_path):
    switches = [
        {"schedule": "linear"},
        {"gbm": False},
        {"gbm_reduce": "max", "gbm_every": 1},
        {"gbm_every": 1},
        {"unit_gradients": False},
        {"distillation": "none"},
        {"mix_softmax": "target"},
        {"real_selection": "random"},
        {"select_every": 1},
        {"cutmix_real": 0.0},
        {"cutmix_synthetic": 0.0},
        {"cutmix_train": 0.0},
        {"lr_alignment": 0.1},
        {"legacy_frozen_convnet": True},
        {"batch_synthetic": 3},
        {"augment": None},
    ]
    made = parts("hmdc", "init=mix", steps=2, width=8, batch_real=8)
    images = set()
    for i, switch in enumerate([{}, *switches]):
        changed = dataclasses.replace(made, method=dataclasses.replace(made.method, **switch))
        images.add(run_made(changed, toy, tmp_path / str(i)).bytes)
    assert len(images) == 1 + len(switches)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "test_convnext"])
def test_any_network_of_timm_condenses_with_a_convnet(architecture, parts, toy):
    theirs = Timm(name="T", architecture=architecture, input_size=32, lr=0.01)
    pool = Pool(networks={"C": ConvNet(name="C", width=4), "distillation": theirs})
    made = parts("hmdc", "init=mix", batch_real=4)
    made = dataclasses.replace(made, method=dataclasses.replace(made.method, pool=pool))
    metrics, state, before, after = step_once(made, toy)
    assert list(metrics) == ["loss", "loss_C", "loss_distillation", "loss/distillation"]
    assert all(value > 0 for value in metrics.values())
    assert (after - before).abs().amax((1, 2, 3)).min() > 0
    weights = [parameter.detach().clone() for parameter in state.learners.networks[1].parameters()]
    again = SyntheticSet.from_images(after.requires_grad_(), toy, factor=made.method.factor)
    made.method.step(toy, again, state)  # which trains the networks first
    assert any(
        not torch.equal(*pair)
        for pair in zip(weights, state.learners.networks[1].parameters(), strict=True)
    )


def test_three_networks_have_a_loss_each_and_one_of_distillation(parts, toy):
    for form in ("mean", "pairwise"):
        made = parts("hmdc", THREE, f"method.distillation={form}", width=8)
        metrics = step_once(made, toy)[0]
        assert list(metrics) == [
            "loss",
            "loss_ConvNet",
            "loss_ResNet",
            "loss_ViT",
            "loss/distillation",
        ]
        total = sum(value for name, value in metrics.items() if name != "loss")
        torch.testing.assert_close(metrics["loss"], total)
        assert all(value > 0 for value in metrics.values())


def test_the_first_step_moves_the_largest_pixel_of_every_image_by_the_rate(parts, toy):
    """lr in normalised units, so by lr · std in [0, 1]; the box may cut it."""
    _, _, before, after = step_once(
        parts("hmdc", "init=noise", "method.pixel_box=free", lr=0.005), toy
    )
    moved = (after - before).abs().amax((2, 3))
    torch.testing.assert_close(moved, torch.full_like(moved, 0.005 * 0.22), rtol=1e-3, atol=0)


def test_the_linear_schedule_falls_by_equal_steps_to_nothing(
    parts, run_made, toy, tmp_path, monkeypatch
):
    rates = []
    plain = module.PixelSGD.step

    def step(self, gradient, lr):
        rates.append(lr)
        plain(self, gradient, lr)

    monkeypatch.setattr(module.PixelSGD, "step", step)
    run_made(parts("hmdc", ONE, "method.schedule=linear", steps=4, lr=0.1), toy, tmp_path / "run")
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def balanced_plainly(seen, every, reduce):
    """Follow A and w_cj = min_i A_ci / A_cj entry by entry, from (steps under these networks,
    gradients) to Σ_j w g.
    """
    sums, peaks = [], {}
    for step, gradients in seen:
        losses, classes = gradients.shape[:2]
        if step == 0:
            peaks = {(c, j): 1e-6 for c in range(classes) for j in range(losses)}
        if step % every == 0:
            for c, j in peaks:
                peak = max(abs(value) for value in gradients[j, c].flatten().tolist())
                peaks[c, j] = peaks[c, j] + peak if reduce == "sum" else max(peaks[c, j], peak)
        least = [min(peaks[c, j] for j in range(losses)) for c in range(classes)]
        of_class = [
            sum(least[c] / peaks[c, j] * gradients[j, c] for j in range(losses))
            for c in range(classes)
        ]
        sums.append(torch.stack(of_class))
    return sums


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_losses_are_weighed_by_the_peaks_sampled_so_far(
    reduce, parts, run_made, toy, tmp_path, monkeypatch
):
    seen, got = [], []
    plain = HMDC._balance

    def balanced(self, gradients, state):
        seen.append((state.network_steps, gradients.clone()))
        got.append(plain(self, gradients, state))
        return got[-1]

    monkeypatch.setattr(HMDC, "_balance", balanced)
    run_made(
        parts("hmdc", f"method.gbm_reduce={reduce}", steps=8, steps_per_network=5, gbm_every=2),
        toy,
        tmp_path / "run",
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4, 0, 1, 2]
    wanted = balanced_plainly(seen, 2, reduce)
    for ours, plainly in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, plainly, rtol=1e-4, atol=1e-5 * float(plainly.abs().max()))


def test_half_precision_of_the_first_order_passes_changes_little(condense, toy):
    exact, half = (
        condense("hmdc", toy, "init=mix", f"engine.precision={precision}", steps=3, lr=0.01)
        for precision in ("float32", "bfloat16")
    )
    assert exact.bytes != half.bytes
    assert exact.losses == pytest.approx(half.losses, rel=0.1)
    moved = [run.synthetic.images.detach() - run.first for run in (exact, half)]
    assert float(torch.cosine_similarity(*(m.flatten() for m in moved), dim=0)) > 0.95


@pytest.mark.parametrize(
    ("setting", "arguments"),
    [
        ({"schedule": "cosine"}, "HMDC.schedule='cosine' is unknown; allowed: constant, linear."),
        (
            {"real_selection": "k_means"},
            "HMDC.real_selection='k_means' is unknown; allowed: kmeans, random. Did you mean 'kmeans'?",
        ),
        ({"gbm_reduce": "mean"}, "HMDC.gbm_reduce='mean' is unknown; allowed: sum, max."),
        (
            {"distillation": "all"},
            "HMDC.distillation='all' is unknown; allowed: mean, pairwise, none.",
        ),
        ({"mix_softmax": "tap"}, "HMDC.mix_softmax='tap' is unknown; allowed: source, target."),
        ({"lr_alignment": 0.0}, "HMDC.lr_alignment=0.0 is out of range; allowed: numbers above 0."),
        (
            {"cutmix_real": 1.5},
            "HMDC.cutmix_real=1.5 is out of range; allowed: numbers from 0, up to 1.",
        ),
        (
            {"steps_per_network": 0},
            "HMDC.steps_per_network=0 is out of range; allowed: whole numbers from 1.",
        ),
        (
            {"select_every": 0},
            "HMDC.select_every=0 is out of range; allowed: whole numbers from 1.",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, arguments):
    with pytest.raises(ConfigError) as caught:
        HMDC(pool=POOL, engine=EXACT, augment=None, steps=1, **setting)
    assert str(caught.value).startswith(arguments)


def test_on_whitened_images_a_step_has_the_size_lr_in_whitened_units(parts, toy):
    whitening = fit_whitening(toy.train.images)
    real = dataclasses.replace(toy, mean=(0.0,), std=(1.0,), whitening=whitening)
    settings = {"batch_real": 8, "lr": 0.01, "momentum": 0.0, "pixel_box": "free", "factor": 1}
    _, _, before, after = step_once(parts("hmdc", ONE, **settings), real)
    moved = whitening.apply(after) - whitening.apply(before)
    assert torch.allclose(moved.abs().amax((2, 3)), torch.tensor(0.01), rtol=1e-3)
