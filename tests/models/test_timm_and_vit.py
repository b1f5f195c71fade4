from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError, UnsupportedError
from dcond.models import Pool, Timm, ViT
from dcond.models.timm_network import Adapt, TimmNetwork
from dcond.models.vit import auto_patch
from dcond.whitening import Whitening


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("side", "patch"), [(8, 2), (15, 2), (16, 4), (28, 4), (32, 4), (64, 8), (128, 16)]
)
def test_patch_follows_the_side(side, patch):
    assert auto_patch(side) == patch


def test_vit_semantic_is_the_class_token_before_the_last_norm(make_spec):
    network = ViT(name="V", depth=2, width=32, heads=2).build(make_spec(1, 28), rng())
    x = torch.randn(3, 1, 28, 28)
    taps = network.features(x)
    assert taps[-1].spatial.shape == (3, 32, 7, 7)
    torch.testing.assert_close(network.body.norm(taps[-1].semantic), network.embed(x))


def test_vit_pads_to_a_multiple_of_the_patch(make_spec):
    network = ViT(name="V", depth=1, width=32, heads=2, patch=8).build(make_spec(3, 28), rng())
    x = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(network(x), network.body(F.pad(x, (2, 2, 2, 2))))


def test_fused_attention_computes_the_same(make_spec):
    plain, fused = (
        ViT(name="V", depth=2, width=32, heads=2, fused_attention=on).build(make_spec(1, 8), rng())
        for on in (False, True)
    )
    assert [block.attn.fused_attn for block in plain.body.blocks] == [False, False]
    assert [block.attn.fused_attn for block in fused.body.blocks] == [True, True]
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(plain(x), fused(x), atol=1e-5, rtol=1e-4)


def test_attention_is_differentiated_twice(make_spec):
    """In its own weights: PyTorch's fused kernels have no second derivative."""
    network = ViT(name="V", depth=1, width=32, heads=2).build(make_spec(1, 8), rng())
    weight = network.body.blocks[0].attn.qkv.weight
    (first,) = torch.autograd.grad(
        network(torch.randn(2, 1, 8, 8)).square().sum(), weight, create_graph=True
    )
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.abs().sum() > 0


def test_vit_initialisation_keeps_the_variance(make_spec):
    body = ViT(name="V", depth=1, width=256, heads=4).build(make_spec(), rng()).body
    assert body.blocks[0].mlp.fc2.weight.std().item() == pytest.approx(1024**-0.5, rel=0.02)
    assert body.pos_embed.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 0}, "ViT.patch=0 is out of range; allowed: whole numbers from 1"),
        ({"depth": 0}, "ViT.depth=0 is out of range; allowed: whole numbers from 1"),
        ({"width": 64, "heads": 3}, "V: width=64 is not a multiple of heads=3"),
    ],
)
def test_bad_vit_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ViT(name="V", **settings)


@pytest.mark.parametrize(
    ("architecture", "taps"), [("test_vit", 6), ("test_resnet", 5), ("test_convnext", 4)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_taps_logits_and_embedding(architecture, taps, channels, make_spec):
    recipe = Timm(name="T", architecture=architecture, input_size=64)
    network = recipe.build(make_spec(channels, 32), rng())
    x = torch.randn(2, channels, 32, 32, requires_grad=True)
    logits, embedding, features = network(x), network.embed(x), network.features(x)
    assert logits.shape == (2, 10)
    assert embedding.ndim == 2
    torch.testing.assert_close(network.body.get_classifier()(embedding), logits)
    assert len(features) == taps
    for tap in features:
        assert tap.spatial.shape[:2] == tap.semantic.shape
        is_mean = torch.allclose(tap.semantic, tap.spatial.mean((2, 3)), atol=1e-5)
        assert is_mean != (architecture == "test_vit")
    together, taps = network.forward_with_features(x)
    torch.testing.assert_close(together, logits)
    for one, other in zip(taps, features, strict=True):
        torch.testing.assert_close(one, other)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0


def test_timm_resizes_to_its_own_size(make_spec):
    network = Timm(name="T", architecture="test_resnet").build(make_spec(3, 32), rng()).eval()
    x = torch.randn(1, 3, 32, 32)
    assert network.prepare(x).shape == (1, 3, 160, 160)
    enlarged = F.interpolate(x, size=(160, 160), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(x), network.body(enlarged))


@pytest.mark.parametrize(("architecture", "size"), [("mixer_s32_224", 64), ("test_vit", 4)])
def test_an_input_size_that_a_network_does_not_take_is_one_line(architecture, size, make_spec):
    recipe = Timm(name="T", architecture=architecture, input_size=size)
    with pytest.raises(
        ConfigError,
        match=rf"T: {architecture} does not take images of {size} px \(.*; choose another input_size, or null for its own \d+ px",
    ) as caught:
        recipe.build(make_spec(3, 32), rng())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stats", "used"),
    [
        ("checkpoint", "checkpoint's mean (0.5, 0.5, 0.5) and std (0.5, 0.5, 0.5)"),
        ("dataset", "data set's mean (0.4, 0.4, 0.4) and std (0.25, 0.25, 0.25)"),
    ],
)
def test_the_input_of_a_network_is_logged_once(stats, used, weights, make_spec, caplog):
    settings = {"pretrained": True, "checkpoint": weights[0], "input_stats": stats}
    recipe = Timm(name="T", architecture="test_vit", input_size=64, **settings)
    with caplog.at_level("INFO"):
        network = recipe.build(make_spec(3, 32), rng())
        recipe.reset(network, make_spec(3, 32), rng())
    assert network.training
    assert caplog.messages == [
        f"T: images of 32 x 32 px are brought to 64 x 64 and normalised by the {used}"
    ]


def test_timm_reset_is_repeatable(make_spec):
    recipe, spec = Timm(name="T", architecture="test_resnet"), make_spec()
    network = recipe.build(spec, rng(0))
    recipe.reset(network, spec, rng(5))
    fresh = recipe.build(spec, rng(5)).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in network.state_dict().items())


@pytest.fixture
def weights(tmp_path):
    """A file of "published" weights with timm's own number of classes, and the network it came
    from.
    """
    torch.manual_seed(11)
    model = timm.create_model("test_vit")
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    return str(path), model


@pytest.mark.parametrize("channels", [1, 3])
def test_checkpoint_statistics_undo_the_data_sets(weights, channels, make_spec):
    path, model = weights
    spec = make_spec(channels, 160)
    network = Timm(name="T", architecture="test_vit", pretrained=True, checkpoint=path).build(
        spec, rng()
    )
    pixels = torch.rand(2, channels, 160, 160)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = (pixels.expand(-1, 3, -1, -1) - mean) / std
    torch.testing.assert_close(
        network.prepare(spec.normalise(pixels)), expected, atol=1e-5, rtol=1e-4
    )
    body = model.eval()
    torch.testing.assert_close(
        network.eval().embed(spec.normalise(pixels)),
        body.forward_head(body.forward_features(expected), pre_logits=True),
        atol=1e-4,
        rtol=1e-3,
    )


def test_checkpoint_statistics_are_refused_for_whitened_images(weights, make_spec):
    path, _ = weights
    recipe = Timm(name="T", architecture="test_vit", pretrained=True, checkpoint=path)
    white = torch.ones(1)
    spec = replace(make_spec(3, 160), whitening=Whitening(white, white, white))
    with pytest.raises(
        ConfigError,
        match=r"^T: input_stats=checkpoint cannot normalise whitened images; set input_stats=data",
    ):
        recipe.build(spec, rng())
    replace(recipe, input_stats="dataset").build(spec, rng())


def test_dataset_statistics_leave_the_values(weights, make_spec):
    recipe = Timm(
        name="T",
        architecture="test_vit",
        pretrained=True,
        checkpoint=weights[0],
        input_stats="dataset",
    )
    network = recipe.build(make_spec(1, 160), rng())
    x = torch.randn(2, 1, 160, 160)
    assert torch.equal(network.prepare(x), x.expand(-1, 3, -1, -1))


def test_pretrained_reset_returns_to_the_weights_with_a_new_head(weights, make_spec):
    recipe = Timm(name="T", architecture="test_vit", pretrained=True, checkpoint=weights[0])
    spec = make_spec()
    network = recipe.build(spec, rng(0))
    head = network.body.head.weight.detach().clone()
    with torch.no_grad():
        network.body.norm.weight.add_(1)
    recipe.reset(network, spec, rng(1))
    assert torch.equal(network.body.norm.weight, weights[1].norm.weight)
    assert not torch.equal(network.body.head.weight, head)


def test_weights_that_cannot_be_read_say_what_to_do(tmp_path, make_spec):
    recipe = Timm(
        name="T", architecture="test_vit", pretrained=True, checkpoint=str(tmp_path / "none.pth")
    )
    message = "T: the pretrained weights of 'test_vit' cannot be read .*fetch them once .* set pretrained=false, or choose a pool"
    with pytest.raises(ConfigError, match=message):
        recipe.build(make_spec(), rng())


def test_caches_know_a_checkpoint_by_its_content(weights, tmp_path, make_spec, monkeypatch):
    options = {"name": "T", "architecture": "test_vit", "pretrained": True}
    recipe = Timm(**options, checkpoint=weights[0])
    before = repr(recipe.by_content())
    copy = tmp_path / "copy.pth"
    copy.write_bytes(Path(weights[0]).read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repr(Timm(**options, checkpoint="~/copy.pth").by_content()) == before
    Timm(**options, checkpoint="~/copy.pth").build(make_spec(), rng())
    torch.save({name: tensor + 1 for name, tensor in weights[1].state_dict().items()}, weights[0])
    assert repr(recipe.by_content()) != before
    copy.unlink()
    with pytest.raises(
        ConfigError,
        match=r"^T: checkpoint=.*copy\.pth cannot be read \(No such file or directory\); give",
    ):
        Timm(**options, checkpoint=str(copy)).by_content()


def test_no_network_is_one_line(monkeypatch, make_spec):
    def offline(*args, **kwargs):
        raise OSError("no route to host\nand a page of hints")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"\(no route to host\); fetch them once") as caught:
        Timm(name="T", architecture="test_vit", pretrained=True).build(make_spec(), rng())
    assert "\n" not in str(caught.value)


def test_weights_are_fetched_ahead_where_any_are_needed(weights, tmp_path, monkeypatch):
    options = {"architecture": "test_vit", "pretrained": True}
    there, missing = (
        Timm(name=name, checkpoint=path, **options)
        for name, path in (("A", weights[0]), ("B", str(tmp_path / "no.pth")))
    )
    Pool(networks={"A": there}).fetch()
    with pytest.raises(ConfigError, match="B: the pretrained weights of 'test_vit' cannot be read"):
        Pool(networks={"A": there, "B": missing}).fetch()
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **kwargs: pytest.fail("nothing is needed")
    )
    Pool(networks={"T": Timm(name="T", architecture="test_vit"), "V": ViT(name="V")}).fetch()


def test_pretrained_takes_grey_or_colour_only(weights, make_spec):
    recipe = Timm(name="T", architecture="test_vit", pretrained=True, checkpoint=weights[0])
    with pytest.raises(
        ConfigError, match="T: pretrained weights need images of 1 or 3 channels; these have 4"
    ):
        recipe.build(make_spec(4), rng())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "resnet81"},
            "T: architecture='resnet81' is unknown to timm .*Did you mean 'resnet",
        ),
        (
            {"architecture": "resnet18.nope", "pretrained": True},
            "no pretrained weights 'resnet18.nope'; allowed: .*a1",
        ),
        (
            {"architecture": "test_vit", "input_stats": "own"},
            "input_stats='own' is unknown; allowed: checkpoint, data",
        ),
        (
            {"architecture": "test_vit", "input_size": 0},
            "Timm.input_size=0 is out of range",
        ),
        (
            {"architecture": "test_vit", "checkpoint": "a.pth"},
            "checkpoint=a.pth is read only with pretrained=true",
        ),
    ],
)
def test_bad_timm_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        Timm(name="T", **settings)


def test_missing_intermediate_features_are_an_error():
    network = TimmNetwork(torch.nn.Linear(1, 1), Adapt(8, torch.ones(3), torch.zeros(3)))
    with pytest.raises(
        UnsupportedError, match="timm's Linear has no forward_intermediates, so it has no taps"
    ):
        network.features(torch.randn(1, 3, 8, 8))
