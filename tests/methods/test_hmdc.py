"""HMDC: what a step is made of, its switches, and the single network it reduces to."""

import dataclasses

import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching.clusters import representatives
from dcond.matching.distances import squared
from dcond.matching.engine import Engine
from dcond.matching.views import class_features, embed_real
from dcond.methods import hmdc as module
from dcond.methods.hmdc import HMDC
from dcond.models import MLP, ConvNet, Pool, Timm
from dcond.rng import Streams
from dcond.types import SyntheticSet

EXACT = Engine(precision="float32", compile=False, classes=1)
ONE = "pool@learners=convnet"
THREE = "pool@learners=convnet_resnet_vit"
POOL = Pool(networks={"C": ConvNet(name="C", width=4), "M": MLP(name="M", hidden=(8, 8))})


def test_one_network_is_plain_gradient_matching(parts, run_made, toy, tmp_path):
    """One step against the loss of class gradients alone, from the same streams."""
    plain = {"cutmix_real": 0, "cutmix_synthetic": 0, "choice": "random", "unit_gradients": False, "factor": 1}
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
        {"choice": "random"},
        {"refresh": 1},
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
    pool = Pool(networks={"C": ConvNet(name="C", width=4), "T": theirs})
    made = parts("hmdc", "init=mix", batch_real=4)
    made = dataclasses.replace(made, method=dataclasses.replace(made.method, pool=pool))
    metrics, state, before, after = step_once(made, toy)
    assert list(metrics) == ["loss", "loss_C", "loss_T", "loss_md"]
    assert all(value > 0 for value in metrics.values())
    assert (after - before).abs().amax((1, 2, 3)).min() > 0
    weights = [parameter.detach().clone() for parameter in state.learners.networks[1].parameters()]
    made.method.step(
        toy, as_set(after.requires_grad_(), toy, made.method.factor), state
    )  # which trains the networks first
    assert any(not torch.equal(*pair) for pair in zip(weights, state.learners.networks[1].parameters(), strict=True))


def test_three_networks_have_a_loss_each_and_one_of_distillation(parts, toy):
    for form in ("mean", "pairwise"):
        made = parts("hmdc", THREE, f"method.distillation={form}", width=8)
        metrics = step_once(made, toy)[0]
        assert list(metrics) == ["loss", "loss_ConvNet", "loss_ResNet", "loss_ViT", "loss_md"]
        total = sum(value for name, value in metrics.items() if name != "loss")
        torch.testing.assert_close(metrics["loss"], total)
        assert all(value > 0 for value in metrics.values())


def as_set(images, real, factor):
    """Make a set of class-major images."""
    ipc = len(images) // 3
    labels = torch.arange(3).repeat_interleave(ipc)
    return SyntheticSet(images, labels, real.class_names, ipc, real.mean, real.std, factor)


def step_once(made, real, ipc=2):
    """Make the state, do a step, and return the metrics, the state, and the images before and after."""
    rng, factor = Streams(0), made.method.factor
    images = made.start(real, ipc, factor, rng)
    synthetic = as_set(images, real, factor)
    before = images.clone()
    state = made.method.init(real, synthetic, rng)
    metrics = made.method.step(real, synthetic, state)
    return metrics, state, before, synthetic.images.detach()


def test_the_first_step_moves_the_largest_pixel_of_every_image_by_the_rate(parts, toy):
    """lr in normalised units, so by lr · std in [0, 1]; the box may cut it."""
    _, _, before, after = step_once(parts("hmdc", "init=noise", "method.pixel_box=free", lr=0.005), toy)
    moved = (after - before).abs().amax((2, 3))
    torch.testing.assert_close(moved, torch.full_like(moved, 0.005 * 0.22), rtol=1e-3, atol=0)


def test_the_linear_schedule_falls_by_equal_steps_to_nothing(parts, run_made, toy, tmp_path, monkeypatch):
    rates = []
    plain = module.PixelSGD.step

    def step(self, gradient, lr):
        rates.append(lr)
        plain(self, gradient, lr)

    monkeypatch.setattr(module.PixelSGD, "step", step)
    run_made(parts("hmdc", ONE, "method.schedule=linear", steps=4, lr=0.1), toy, tmp_path / "run")
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_weights_make_the_peaks_equal(parts, toy):
    _, state, _, _ = step_once(parts("hmdc"), toy)
    accumulator = state.accumulator
    assert accumulator.shape == (3, 3)
    assert (accumulator > 1e-5).all()  # every loss of every class was sampled
    balanced = module.balance.weights(accumulator) * accumulator
    torch.testing.assert_close(balanced, balanced[:, :1].expand(3, 3))


def test_real_images_are_those_nearest_to_the_centroids(parts, toy, monkeypatch):
    made, seen = parts("hmdc", "init=mix", batch_real=8), []

    def features(network, *rest):
        seen.append(network)
        return class_features(network, *rest)

    monkeypatch.setattr(module, "class_features", features)
    _, state, _, _ = step_once(made, toy)
    networks = state.learners.networks
    assert seen == networks[:1]
    plain = embed_real(networks[0], toy, 256)  # a step trains the networks only before the next
    assert torch.equal(state.rows, representatives(plain, toy.class_rows, 8, Streams(0).real))
    for c, chosen in enumerate(state.rows):
        assert (toy.train.labels[chosen] == c).all()


def test_the_choice_is_kept_between_refreshes_and_networks_take_turns(parts, run_made, toy, tmp_path, monkeypatch):
    turns = []
    plain = HMDC._choose

    def choose(self, real, state):
        turns.append((state.outer, state.outer // self.refresh % 2))
        return plain(self, real, state)

    monkeypatch.setattr(HMDC, "_choose", choose)
    run_made(parts("hmdc", "method.refresh=2", steps=9, outer=5), toy, tmp_path / "run")
    once = [(0, 0), (2, 1), (4, 0)]
    assert turns == [*once, *once[:2]]


def test_networks_are_trained_between_image_steps_and_start_anew_after_outer_ones(
    parts, run_made, toy, tmp_path, monkeypatch
):
    seen = []
    for name in ("train", "renew"):
        plain = getattr(module.Learners, name)

        def call(self, *args, plain=plain, name=name, **words):
            seen.append(name)
            return plain(self, *args, **words)

        monkeypatch.setattr(module.Learners, name, call)
    accumulators = []
    plain_balanced = HMDC._balanced

    def balanced(self, gradients, state):
        accumulators.append(float(state.accumulator.max()))
        return plain_balanced(self, gradients, state)

    monkeypatch.setattr(HMDC, "_balanced", balanced)
    run_made(parts("hmdc", steps=5, outer=2), toy, tmp_path / "run")
    assert seen == ["train", "renew", "train", "renew"]
    start = module.balance.START
    assert [value == pytest.approx(start) for value in accumulators] == [True, False, True, False, True]


def test_batch_norm_networks_are_matched_with_frozen_statistics(condense, toy):
    losses = condense("hmdc", toy, "learners.networks.ConvNet.norm=batch", steps=3).losses
    assert all(torch.isfinite(torch.tensor(losses)))


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
    ("setting", "words"),
    [
        ({"schedule": "cosine"}, "method.schedule='cosine' is unknown; allowed: constant, linear."),
        ({"choice": "k_means"}, "method.choice='k_means' is unknown; allowed: kmeans, random. Did you mean 'kmeans'?"),
        ({"gbm_reduce": "mean"}, "method.gbm_reduce='mean' is unknown; allowed: sum, max."),
        ({"distillation": "all"}, "method.distillation='all' is unknown; allowed: mean, pairwise, none."),
        ({"mix_softmax": "tap"}, "method.mix_softmax='tap' is unknown; allowed: source, target."),
        ({"lr_alignment": 0.0}, "method.lr_alignment=0.0 must be greater than 0."),
        ({"cutmix_real": 1.5}, "method.cutmix_real=1.5 is out of range; allowed: 0 to 1."),
        ({"outer": 0}, "method.outer=0 is out of range; allowed: whole numbers from 1."),
        ({"refresh": 0}, "method.refresh=0 is out of range; allowed: whole numbers from 1."),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, words):
    with pytest.raises(ConfigError) as caught:
        HMDC(pool=POOL, engine=EXACT, augment=None, steps=1, **setting)
    assert str(caught.value).startswith(words)
