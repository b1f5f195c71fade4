"""MTT: learned rate, whitening, memory settings, and what the artefact and the evaluation take over."""

from dataclasses import replace

import pytest
import torch

from dcond import artefact
from dcond.errors import ConfigError
from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, Pool, Timm, ViT
from dcond.rng import Streams
from dcond.training.trajectory_step import RATE_FLOOR, LearnedTensor
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening


@pytest.fixture
def whitened(toy):
    return replace(toy, mean=(0.0,), std=(1.0,), whitening=fit_whitening(toy.train.images))


@pytest.mark.parametrize("segment", [1, 2])
def test_segments_change_nothing_but_rounding(segment, condense, toy):
    whole, parts = (
        condense("mtt", toy, steps=4, segment=m, lr=1.0).synthetic for m in (None, segment)
    )
    assert torch.allclose(whole.images, parts.images, atol=1e-5)
    assert float(whole.learned_lr) == pytest.approx(float(parts.learned_lr), rel=1e-5)


def test_the_gradient_of_tesla_is_another(condense, toy):
    exact, tesla = (
        condense(
            "mtt", toy, steps=4, gradient=kind, lr=1.0, rate=0.1, student_steps=8
        ).synthetic.images
        for kind in ("exact", "tesla")
    )
    assert float((exact - tesla).detach().abs().max()) > 1e-3


def test_the_learned_rate_moves_and_stays_positive(condense, toy):
    slow = condense("mtt", toy, steps=5, lr=0.1, lr_rate=1e-3).synthetic
    assert abs(float(slow.learned_lr) - 0.01) > 1e-5
    far = condense("mtt", toy, steps=1, rate=0.5, lr_rate=1e3).synthetic  # 0.5 overshoots
    assert float(far.learned_lr) == pytest.approx(RATE_FLOOR)


def test_a_learned_tensor_is_stepped_by_sgd_with_momentum_down_to_its_floor():
    values = torch.tensor([1.0, 2.0])
    reference = torch.nn.Parameter(values.clone())
    learned = LearnedTensor(values, 0.1, 0.5, floor=0.5)
    sgd = torch.optim.SGD([reference], lr=0.1, momentum=0.5)
    for gradient in (torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.0])):
        learned.step(gradient)
        reference.grad = gradient
        sgd.step()
    assert torch.allclose(values, reference.detach())
    learned.step(torch.tensor([100.0, 0.0]))
    assert values[0] == 0.5


def test_a_step_on_whitened_images_is_the_same_step_in_pixels(whitened):
    rng = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 1, 8, 8, generator=rng)
    own = whitened.spec.whitening
    gradient = torch.randn(2, 1, 8, 8, generator=rng)  # ∂L/∂w
    in_pixels = (gradient.flatten(1) @ own.matrix.T).view_as(gradient)  # ∂L/∂x
    moved = own.undo(own.apply(pixels) - 0.1 * gradient)
    assert torch.allclose(moved, pixels - 0.1 * own.pixel_step(in_pixels), atol=1e-5)


def test_a_whitened_set_keeps_its_whitening_and_its_rate(whitened, parts, tmp_path):
    made = parts("mtt", steps=3)
    start = made.start(whitened, 2, 1, Streams(0))
    synthetic = SyntheticSet.from_images(start, whitened)
    state = made.method.init(whitened, synthetic, Streams(0))
    metrics = made.method.step(whitened, synthetic, state)
    assert torch.isfinite(metrics["loss"])
    synthetic.images.requires_grad_(False)
    loaded = artefact.load(artefact.save(synthetic, tmp_path / "set.safetensors"))
    assert torch.equal(loaded.whitening.matrix, whitened.whitening.matrix)
    assert loaded.learned_lr == pytest.approx(float(synthetic.learned_lr))
    assert torch.allclose(loaded.dataset().tensors[0], whitened.spec.normalise(synthetic.images))


def test_a_learned_rate_that_is_taken_away_is_not_saved(toy, tmp_path):
    rows = torch.cat([own[:1] for own in toy.class_rows])
    synthetic = replace(SyntheticSet.from_images(toy.pixels(rows), toy), learned_lr=0.1)
    path = artefact.save(synthetic, tmp_path / "set.safetensors")
    artefact.save(replace(artefact.load(path), learned_lr=None), path)
    assert artefact.load(path).learned_lr is None


def test_the_evaluation_takes_the_learned_rate_where_it_is_asked_to(toy):
    rows = torch.cat([own[:2] for own in toy.class_rows])
    synthetic = SyntheticSet.from_images(toy.pixels(rows), toy)
    pool = Pool(networks={"MLP": MLP(name="MLP", hidden=(8,), lr=0.03)})

    def rate(synthetic, lr):
        protocol = EvaluationProtocol(name="short", epochs=1, repeats=1, lr=lr)
        found = protocol.evaluate(lambda repeat: synthetic, pool, toy.test, 0)
        return found.networks["MLP"].lr

    learned = replace(synthetic, learned_lr=torch.tensor(0.25))
    assert rate(learned, "learned") == 0.25
    assert rate(learned, None) == 0.03
    assert rate(synthetic, "learned") == 0.03  # random images, for example


def test_experts_that_end_too_early_are_refused(parts):
    with pytest.raises(
        ConfigError, match=r"max_start_epoch=9 .* need experts of 10 epochs, .* is 3"
    ):
        parts("mtt", max_start_epoch=9)


@pytest.mark.parametrize("method", ["mtt", "datm"])
def test_a_student_and_experts_of_two_kinds_are_refused(method, parts):
    made = parts(method).method
    with pytest.raises(ConfigError, match=r"method.network=Other is not the experts' network"):
        replace(made, network=MLP(name="Other"))


@pytest.mark.parametrize("method", ["mtt", "datm"])
def test_a_network_without_second_derivative_is_refused_before_experts_are_trained(
    method, parts, toy, tmp_path
):
    network = ViT(name="V", depth=1, width=16, heads=2, fused_attention=True)
    made = parts(method).method
    made = replace(made, network=network, experts=replace(made.experts, network=network))
    rows = torch.cat([own[:1] for own in toy.class_rows])
    with pytest.raises(ConfigError, match="no second derivative, which this method needs"):
        made.init(toy, SyntheticSet.from_images(toy.pixels(rows), toy), Streams(0))
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_buffers_that_are_not_saved_are_the_networks_own(parts, toy):
    network = Timm(name="T", architecture="test_resnet", input_size=32, lr=0.01)
    made = parts("mtt", student_steps=1).method
    made = replace(made, network=network, experts=replace(made.experts, network=network))
    rows = torch.cat([own[:1] for own in toy.class_rows])
    synthetic = SyntheticSet.from_images(toy.pixels(rows), toy)
    before = synthetic.images.clone()
    state = made.init(toy, synthetic, Streams(0))
    made.step(toy, synthetic, state)
    assert not torch.equal(before, synthetic.images.detach())


@pytest.mark.parametrize(
    "rate",
    [
        torch.tensor(0.0),
        torch.tensor(-1.0),
        torch.tensor(torch.nan),
        torch.ones(2),
        torch.tensor(1),
    ],
)
def test_an_artefact_with_another_rate_is_refused(rate, toy, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    rows = torch.cat([own[:1] for own in toy.class_rows])
    synthetic = replace(SyntheticSet.from_images(toy.pixels(rows), toy), learned_lr=0.1)
    path = artefact.save(synthetic, tmp_path / "set.safetensors")
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert float(tensors["learned_lr"]) == 0.1
    save_file(tensors | {"learned_lr": rate}, path, metadata=metadata)
    with pytest.raises(artefact.ArtefactError, match="learned_lr"):
        artefact.load(path)
    save_file(tensors, path, metadata=metadata | {"learned_lr": "0.1"})
    with pytest.raises(artefact.ArtefactError, match="its learned rate is text"):
        artefact.load(path)
