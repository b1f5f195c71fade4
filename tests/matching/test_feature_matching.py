"""Feature matching against the loss written down as it stands; in parts, in bfloat16 and compiled
it is the same.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from dcond.matching import engine as module
from dcond.matching.engine import Engine
from dcond.matching.fast_forward import FastForward
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.mmd import get_kernel, mean_distance, mmd
from dcond.models import MLP, ConvNet, ResNet, ViT
from dcond.rng import generator
from dcond.types import ImageSpec

SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPES = [
    ConvNet(name="c", width=4),
    MLP(name="m"),
    ResNet(name="r"),
    ViT(name="v", width=16, heads=2, depth=1),
]
DISTANCES = {"mean": mean_distance, "gaussian": partial(mmd, kernel=get_kernel("gaussian"))}


def network_of(recipe, dtype=torch.float64):
    return recipe.build(SPEC, generator(0, "network")).to(dtype).requires_grad_(False)


def images(count, seed, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, count, 1, 8, 8, generator=rng, dtype=torch.float64).to(dtype)


def batch(real):
    return RealBatch.made_by(lambda begin, end: real[begin:end], tuple(real.shape), real.device)


def matching(network, *, chunk=64, ours=None, **fast):
    plain = {"bfloat16": False, "compiled": False}
    real, synthetic = (FastForward(network.embed, **(plain | (own or {}))) for own in (fast, ours))
    return ClassFeatureMatching(network, real, synthetic, chunk)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_losses_and_image_gradient_are_those_of_every_class_by_itself(recipe, distance, chunk):
    network, real, synthetic = network_of(recipe), images(5, 1), images(2, 2)
    losses, gradient = matching(network, chunk=chunk).match(batch(real), synthetic, distance)
    for c in range(3):
        own = synthetic[c].clone().requires_grad_()
        loss = distance(network.embed(own)[None], network.embed(real[c])[None])[0]
        torch.testing.assert_close(losses[c], loss.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            gradient[c], *torch.autograd.grad(loss, own), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_bfloat16_real_features_leave_the_direction(distance):
    network, real, synthetic = (
        made.float()
        for made in (network_of(ConvNet(name="c", width=16)), images(64, 1), images(2, 2))
    )
    found = [
        matching(network, bfloat16=half).match(batch(real), synthetic, distance)
        for half in (False, True)
    ]
    (exact, wanted), (mixed, gradient) = found
    assert mixed.dtype == gradient.dtype == torch.float32
    assert not torch.equal(mixed, exact)
    torch.testing.assert_close(mixed, exact, rtol=0.02, atol=0)
    assert float(F.cosine_similarity(wanted.flatten(), gradient.flatten(), dim=0)) > 0.999


def test_only_real_images_take_the_fast_pass():
    seen = []

    def embed(x):
        seen.append(len(x))
        return network.embed(x)

    network = network_of(RECIPES[0])
    fast = FastForward(embed, bfloat16=False, compiled=False)
    plain = FastForward(network.embed, bfloat16=False, compiled=False)
    matching = ClassFeatureMatching(network, fast, plain, 64)
    matching.match(batch(images(5, 1)), images(2, 2), mean_distance)
    assert seen == [15]


@pytest.mark.slow
def test_compiled_features_differ_by_rounding_only():
    network, real, synthetic = (
        made.float()
        for made in (network_of(ConvNet(name="c", width=16)), images(64, 1), images(2, 2))
    )
    compiled = matching(network, compiled=True, ours={"compiled": True})
    for seed in (1, 2):  # fresh weights in the same tensors
        ConvNet(name="c", width=16).reset(network, SPEC, generator(seed, "network"))
        plain, fast = (
            m.match(batch(real), synthetic, mean_distance) for m in (matching(network), compiled)
        )
        assert compiled.forward.compiled is not None
        assert compiled.ours.compiled is not None
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_auto_compiles_long_runs_only(monkeypatch):
    monkeypatch.setattr("dcond.matching.fast_forward.shutil.which", lambda name: name)
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda device: True)
    network = network_of(RECIPES[0], torch.float32)
    short, long = (Engine().features(network, SPEC, count, 0) for count in (1000, 10**12))
    assert short.chunk == 64
    assert short.forward.bfloat16
    assert short.forward.compiled is None
    assert long.forward.compiled is not None
    exact = Engine(precision="float32", compile=False, chunk=5).features(network, SPEC, 10**12, 0)
    assert (exact.forward.bfloat16, exact.forward.compiled, exact.chunk) == (False, None, 5)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_cross_entropy_and_its_gradient_are_those_of_every_class_by_itself(recipe, chunk):
    network, synthetic = network_of(recipe), images(2, 2)
    losses, gradient = matching(network, chunk=chunk).cross_entropy(synthetic)
    assert network.training
    network.eval()
    for c in range(3):
        own = synthetic[c].clone().requires_grad_()
        loss = F.cross_entropy(network(own), torch.full((2,), c))
        torch.testing.assert_close(losses[c], loss.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            gradient[c], *torch.autograd.grad(loss, own), rtol=1e-9, atol=1e-12
        )
