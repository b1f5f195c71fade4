"""Networks that start from the user's own weights."""

import argparse

import numpy as np
import pytest
import timm
import torch

from dcond.errors import ConfigError
from dcond.models import MLP, ConvNet, LeNet, Pool, ResNet, Timm, ViT
from dcond.rng import Streams

NETWORKS = {
    "ConvNet": lambda **message: ConvNet(name="N", width=8, **message),
    "MLP": lambda **message: MLP(name="N", hidden=[8, 8], **message),
    "LeNet": lambda **message: LeNet(name="N", **message),
    "ResNet": lambda **message: ResNet(name="N", width=8, blocks=[1, 1], **message),
    "batch norm": lambda **message: ConvNet(name="N", width=8, norm="batch", **message),
    "ViT": lambda **message: ViT(name="N", width=8, depth=1, heads=2, **message),
}


def rng(seed=0):
    return Streams(seed).networks


@pytest.fixture
def saved(make_spec, tmp_path):
    def save(recipe, classes=5):
        network = recipe.build(make_spec(side=16, classes=classes), rng(7))
        torch.save(network.state_dict(), tmp_path / "w.pt")
        return network

    return save


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("classes", [5, 3])
def test_all_but_the_head_is_as_in_the_file_and_again_after_a_reset(
    kind, classes, make_spec, saved, tmp_path
):
    given = saved(NETWORKS[kind](), classes).state_dict()
    recipe = NETWORKS[kind](weights=str(tmp_path / "w.pt"))
    spec = make_spec(side=16, classes=5)
    network = recipe.build(spec, rng(1))
    drawn = NETWORKS[kind]().build(spec, rng(1)).state_dict()
    for _ in range(2):
        fresh = {
            name
            for name, tensor in network.state_dict().items()
            if torch.equal(tensor, drawn[name])
        }
        own = {
            n for n, t in network.state_dict().items() if n in given and t.shape == given[n].shape
        }
        read = {name for name in own if torch.equal(network.state_dict()[name], given[name])}
        head = set(drawn) - read
        assert {name.rpartition(".")[2] for name in head} <= {"weight", "bias"}
        assert 1 <= len(head) <= 2  # ViT's head starts with a bias of zero in both
        assert head <= fresh
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.add_(1)
        recipe.reset(network, spec, rng(1))


def test_the_file_is_read_once_for_all_resets(make_spec, saved, tmp_path):
    """So a run has the same weights from its start to its end, whatever becomes of the file."""
    given = saved(NETWORKS["ConvNet"]()).state_dict()
    recipe = NETWORKS["ConvNet"](weights=str(tmp_path / "w.pt"))
    recipe.fetch()
    (tmp_path / "w.pt").unlink()
    network = recipe.build(make_spec(side=16, classes=5), rng(1))
    body = [name for name in given if not name.startswith("head")]
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(1)
    recipe.reset(network, make_spec(side=16, classes=5), rng(1))
    assert len(body) > 1
    assert all(torch.equal(network.state_dict()[name], given[name]) for name in body)


def test_caches_know_a_file_by_its_content_wherever_it_lies(
    make_spec, saved, tmp_path, monkeypatch
):
    plain = NETWORKS["ConvNet"]()
    assert plain.by_content() is plain
    saved(plain)
    file = tmp_path / "w.pt"
    first = NETWORKS["ConvNet"](weights=str(file))
    first.fetch()
    before = repr(first.by_content())
    moved = NETWORKS["ConvNet"](weights=str(file.rename(tmp_path / "moved.pt")))
    assert (
        repr(moved.by_content()) == before == repr(first.by_content())
    )  # as read, whatever becomes of the file
    assert str(tmp_path) not in before
    monkeypatch.setenv("HOME", str(tmp_path))  # as a YAML file says it, which no shell expands
    assert repr(NETWORKS["ConvNet"](weights="~/moved.pt").by_content()) == before
    content = torch.load(tmp_path / "moved.pt", weights_only=True)
    next(iter(content.values())).view(-1)[0] += 1
    torch.save(content, tmp_path / "moved.pt")
    assert repr(NETWORKS["ConvNet"](weights=str(tmp_path / "moved.pt")).by_content()) != before


def test_a_file_of_another_network_is_refused_before_any_work(make_spec, saved, tmp_path):
    saved(ConvNet(name="N", width=4))
    recipe = ConvNet(name="Mine", width=8, weights=str(tmp_path / "w.pt"))
    Pool(networks={"Mine": recipe}).fetch()  # a state_dict it is
    with pytest.raises(
        ConfigError,
        match=r"Mine: .*w.pt belongs to another network \(stages.*: 4.* in the file, 8.* in M",
    ):
        recipe.build(make_spec(side=16, classes=5), rng())
    with pytest.raises(ConfigError, match=r"in the file, none in Mine|none in the file"):
        LeNet(name="Mine", weights=str(tmp_path / "w.pt")).build(
            make_spec(side=16, classes=5), rng()
        )


@pytest.mark.parametrize("content", [b"", b"no torch file", None])
def test_a_file_that_cannot_be_read_is_one_line(content, tmp_path):
    file = tmp_path / "w.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        ConfigError,
        match=r"^MLP: weights=.*w.pt cannot be read as a torch file \(.*\); copy it again",
    ):
        MLP(name="MLP", weights=str(file)).fetch()


@pytest.mark.parametrize(
    "content", [[], {}, {"epoch": 3}, {"model": {"epoch": 3}}, {"model": "vit"}, torch.zeros(3)]
)
def test_a_file_of_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(
        ConfigError, match=r"is not a state_dict of tensors, nor a checkpoint with one"
    ):
        MLP(name="MLP", weights=str(tmp_path / "w.pt")).fetch()


class Planted:
    def __reduce__(self):
        return (print, ("run",))


def test_nothing_in_the_file_is_run(tmp_path, capsys):
    torch.save({"w": Planted()}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"would run code .*save the weights alone: torch.save\("):
        MLP(name="MLP", weights=str(tmp_path / "w.pt")).fetch()
    assert capsys.readouterr().out == ""


WRAPPED = {
    "state_dict": lambda w: {"state_dict": w, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "model": lambda w: {"model": w, "optimizer": {"lr": 0.1}, "acc": np.float64(0.5)},
    "nested": lambda w: {"model": {"state_dict": w}},
    "averaged": lambda w: {"model_ema": {"n_averaged": torch.tensor(3)} | _prefixed(w, "module.")},
    "weights before their average": lambda w: {
        "state_dict_ema": {key: tensor + 1 for key, tensor in w.items()},
        "net": w,
    },
    "parallel": lambda w: _prefixed(w, "module."),
    "compiled and parallel": lambda w: _prefixed(w, "module._orig_mod."),
    "Lightning": lambda w: {"state_dict": _prefixed(w, "model."), "hyper_parameters": {}},
}


def _prefixed(weights, prefix):
    return {prefix + key: tensor for key, tensor in weights.items()}


@pytest.mark.parametrize("kind", WRAPPED)
def test_checkpoints_of_training_code_are_read(kind, make_spec, tmp_path, caplog):
    spec = make_spec(side=16, classes=5)
    given = NETWORKS["batch norm"]().build(make_spec(side=16, classes=7), rng(7)).state_dict()
    file = tmp_path / "w.pt"
    torch.save(WRAPPED[kind](dict(given)), file)
    recipe = NETWORKS["batch norm"](weights=str(file))
    with caplog.at_level("INFO"):
        for seed in range(3):
            network = recipe.build(spec, rng(seed)).state_dict()
    assert all(torch.equal(network[key], given[key]) for key in given if "head" not in key)
    assert caplog.messages == [
        f"N: starts from {file}; its last linear layer is drawn (the file's, for 7 classes, is omitted)"
    ]


def test_a_network_of_timm_takes_timms_own_names(make_spec, tmp_path, caplog):
    given = timm.create_model("test_resnet", num_classes=7).state_dict()
    torch.save({"state_dict": _prefixed(given, "module.")}, tmp_path / "w.pt")
    recipe = Timm(name="T", architecture="test_resnet", weights=str(tmp_path / "w.pt"))
    network = recipe.build(make_spec(classes=5), rng()).state_dict()
    assert all(torch.equal(network[f"body.{key}"], given[key]) for key in given if "fc" not in key)
    assert network["body.fc.weight"].shape[0] == 5


def test_a_file_without_a_head_and_one_with_more_tensors(make_spec, saved, tmp_path, caplog):
    given = saved(NETWORKS["ConvNet"]()).state_dict()
    body = {key: tensor for key, tensor in given.items() if not key.startswith("head")}
    torch.save(body, tmp_path / "w.pt")
    recipe = NETWORKS["ConvNet"](weights=str(tmp_path / "w.pt"))
    with caplog.at_level("INFO"):
        recipe.build(make_spec(side=16, classes=5), rng())
    assert caplog.messages[0].endswith("its last linear layer is drawn (the file has none)")
    torch.save(body | {"queue": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(
        ConfigError, match=r"belongs to another network \(queue: 3 in the file, none"
    ):
        NETWORKS["ConvNet"](weights=str(tmp_path / "w.pt")).build(make_spec(side=16), rng())
