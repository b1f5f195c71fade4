"""NCFM beyond the contract: its networks, its real batches, the step against plain terms, ψ."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError
from dcond.matching.characteristic import characteristic_distance
from dcond.matching.engine import Engine
from dcond.methods.ncfm import NCFM, interpolate
from dcond.models import ConvNet
from dcond.rng import Streams
from dcond.training.experts import Experts
from dcond.types import RealData, SyntheticSet

CLASSES, PER_CLASS = 3, 5


@pytest.fixture
def real(data) -> RealData:
    return data((PER_CLASS,) * CLASSES)


@pytest.fixture(scope="module")
def experts(tmp_path_factory) -> Experts:
    network = ConvNet(name="c", width=4, depth=1)
    folder = str(tmp_path_factory.mktemp("experts"))
    return Experts(network=network, folder=folder, count=2, epochs=1, batch=8)


def start(real) -> SyntheticSet:
    images = torch.rand(2 * CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return SyntheticSet.from_images(images, real)


@pytest.fixture
def begin(real, experts):
    def begin(synthetic, **settings):
        plain = {
            "experts": experts,
            "engine": Engine(precision="float32", compile=False),
            "steps": 9,
            "lr": 0.01,
            "optimiser": "sgd",
            "momentum": 0.0,
            "frequencies": 20,
            "batch_real": PER_CLASS,
            "factor": 1,
            "pixel_box": "free",
        }
        made = NCFM(**(plain | settings))
        return made, made.init(real, synthetic, Streams(0))

    return begin


def test_interpolation_goes_from_trained_to_untrained_and_keeps_counters():
    initial = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(0)}
    trained = {"weight": torch.tensor([3.0, 6.0]), "count": torch.tensor(7)}
    for share, expected in ((0.0, [3.0, 6.0]), (1.0, [1.0, 2.0]), (0.25, [2.5, 5.0])):
        found = interpolate(initial, trained, share)
        assert found["weight"].tolist() == expected
        assert found["count"] == 7


def test_a_step_follows_both_terms_under_their_networks(real, begin, experts):
    made, state = begin(synthetic := start(real), calibration=2.0)
    before, streams = synthetic.images.detach().clone(), Streams(0)
    found = made.step(real, synthetic, state)

    experts.network.build(real.spec, streams.networks)  # as init does
    trajectories = experts.load_or_train(real)
    pick = trajectories[int(torch.randint(2, (1,), generator=streams.networks))]
    share = float(torch.rand(1, generator=streams.networks))
    frequencies = torch.randn(20, state.width, generator=streams.networks)
    network = experts.network.build(real.spec, Streams(9).networks).eval()
    network.load_state_dict(interpolate(pick.state(0), pick.state(1), share))
    images, terms = real.spec.normalise(before).requires_grad_(), [0.0, 0.0]
    for c in range(CLASSES):
        own, batch = images[2 * c : 2 * c + 2], real.normalised(real.class_rows[c])
        features = [network.embed(x)[None] for x in (own, batch)]
        terms[0] += characteristic_distance(*features, frequencies).sum()
        logits = torch.func.functional_call(network, pick.state(1), own)
        terms[1] += F.cross_entropy(logits, torch.full((2,), c))
    gradients = [torch.autograd.grad(term, images)[0] for term in terms]
    gradient = (gradients[0] + 2.0 * gradients[1]) / real.std[0]  # in pixel units
    assert float(found["loss"]) == pytest.approx((terms[0] + 2 * terms[1]).item(), rel=1e-5)
    torch.testing.assert_close(
        synthetic.images.detach(), before - 0.01 * gradient, rtol=1e-4, atol=1e-6
    )


def test_every_step_draws_an_expert_and_a_place_between_its_weights(real, begin):
    made, state = begin(start(real))
    shares, picks = [], set()
    for _ in range(20):
        initial, _, share = made._draw_network(state.experts, state.rng)
        shares.append(share)
        picks.add(float(initial["head.weight"].sum()))
    assert len(picks) == 2
    assert 0 <= min(shares) < 0.3
    assert 0.7 < max(shares) <= 1


def test_the_first_real_images_are_always_the_same_ones(real, begin, monkeypatch):
    seen = []
    for choice in ("first", "random"):
        made, state = begin(synthetic := start(real), real_batch=choice, batch_real=2)
        plain = state.features.match

        def match(batch, images, distance, plain=plain, **kwargs):
            seen.append(batch.tensor())
            return plain(batch, images, distance, **kwargs)

        monkeypatch.setattr(state.features, "match", match)
        for _ in range(2):
            made.step(real, synthetic, state)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[2], seen[3])


def test_the_rate_is_halved_when_the_loss_no_longer_falls(real, begin):
    made, state = begin(synthetic := start(real), optimiser="adam", lr=1e-6, patience=2)
    rates = []
    for _ in range(9):
        made.step(real, synthetic, state)
        rates.append(state.plateau.get_last_lr()[0])
    assert rates[0] == 1e-6
    assert {b / a for a, b in itertools.pairwise(rates)} == {1.0, 0.5}


def test_the_sampler_is_trained_to_increase_the_distance(real, begin):
    made, state = begin(synthetic := start(real), sampler=True, lr_sampler=1e-2)
    before = [p.detach().clone() for p in state.sampler.network.parameters()]
    noise = torch.randn(20, state.width, generator=torch.Generator().manual_seed(1))
    latent = torch.randn(2, state.width, generator=torch.Generator().manual_seed(2))
    scales = [state.sampler.network(noise, latent).div(noise).mean().item()]
    for _ in range(20):
        made.step(real, synthetic, state)
    scales.append(state.sampler.network(noise, latent).div(noise).mean().item())
    assert any(
        not torch.equal(a, b)
        for a, b in zip(before, state.sampler.network.parameters(), strict=True)
    )
    assert scales[1] > scales[0]  # features of length 1 differ more at higher frequencies


def test_a_run_with_a_sampler_goes_on_where_it_was_saved(real, begin, tmp_path):
    made, state = begin(synthetic := start(real), sampler=True, optimiser="adam")
    for _ in range(2):
        made.step(real, synthetic, state)
    torch.save([state.state_dict(), state.rng.state_dict()], tmp_path / "state.pt")
    other = start(real)
    with torch.no_grad():
        other.images.copy_(synthetic.images)
    _, resumed = begin(other, sampler=True, optimiser="adam")
    saved, streams = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(saved)
    resumed.rng.load_state_dict(streams)
    for images, own in ((synthetic, state), (other, resumed)):
        made.step(real, images, own)
    assert torch.equal(synthetic.images, other.images)
    for a, b in zip(
        state.sampler.network.parameters(), resumed.sampler.network.parameters(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amplitude": 1.0}, "NCFM.amplitude=1.0 is out of range; allowed: numbers from 0, below"),
        ({"real_batch": "frist"}, "NCFM.real_batch='frist' is unknown; allowed: random, first."),
        ({"optimiser": "adamw"}, "NCFM.optimiser='adamw' is unknown; allowed: adam, sgd."),
        ({"frequencies": 0}, "NCFM.frequencies=0 is out of range"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message, experts):
    with pytest.raises(ConfigError) as caught:
        NCFM(**({"experts": experts, "steps": 1, "lr": 0.1} | settings))
    assert message in str(caught.value)
