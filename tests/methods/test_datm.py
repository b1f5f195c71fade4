"""DATM: its window of epochs, labels from experts, the loss limit, and labels in the set."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dcond import artefact
from dcond.errors import ConfigError, DataError
from dcond.rng import Streams
from dcond.training import experts
from dcond.training.expert_labels import mean_logits
from dcond.types import SyntheticSet
from methods.conftest import empty_set


def test_labels_are_the_mean_logits_of_the_experts_that_are_right():
    classes = torch.tensor([0, 1, 1])
    logits = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    logits[:, 2, 0] = logits[:, 2].amax(-1) + 1  # no expert is right on the last image
    labels, some = mean_logits(logits, classes)
    for image, label in enumerate(classes.tolist()):
        right = [z[image] for z in logits if int(z[image].argmax()) == label]
        assert bool(some[image]) == bool(right)
        mean = torch.stack(right or [z[image] for z in logits]).mean(0)
        assert torch.allclose(labels[image], mean)
    assert some.tolist() == [True, True, False]


def test_the_window_of_start_epochs_grows(parts):
    method = replace(
        parts("datm", epochs=50).method,
        min_start_epoch=2,
        first_max_epoch=10,
        max_start_epoch=20,
        growth_steps=100,
    )
    windows = [method.window(step) for step in (0, 9, 10, 50, 100, 10_000)]
    assert [(w.start, w.stop) for w in windows] == [
        *((2, 10), (2, 10), (2, 11), (2, 15), (2, 20), (2, 20))
    ]
    assert replace(method, first_max_epoch=None).window(0) == range(2, 20)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"min_start_epoch": 1}, "first_max_epoch"),
        ({"first_max_epoch": 3}, "first_max_epoch"),
        ({"min_start_epoch": 2, "first_max_epoch": None}, "min_start_epoch"),
        ({"label_epoch": 4}, "label_epoch"),
    ],
)
def test_an_epoch_that_cannot_be_is_refused(parts, change, key):
    with pytest.raises(ConfigError, match=rf"method\.{key}=\d is out of range"):
        replace(parts("datm").method, **change)


def begin(parts, toy, **settings):
    made = parts("datm", "ipc=2", **settings)
    rng = Streams(0)
    synthetic = empty_set(made, toy, 2, rng)
    return made.method, synthetic, made.method.init(toy, synthetic, rng)


def test_every_first_label_is_right_and_images_are_real(parts, toy):
    method, synthetic, _ = begin(parts, toy)
    assert synthetic.logits
    assert synthetic.classes.tolist() == [0, 0, 1, 1, 2, 2]
    every = toy.pixels(torch.arange(len(toy.train))).flatten(1)
    nearest = torch.cdist(synthetic.images.detach().flatten(1), every).amin(1)
    assert float(nearest.max()) < 1e-2  # of rounding in cdist
    assert torch.equal(
        method.labelled(toy, replace(synthetic, labels=synthetic.classes, logits=False)).labels,
        synthetic.labels,
    )


def test_the_experts_of_random_images_are_found_once(parts, toy, monkeypatch):
    method, synthetic, _ = begin(parts, toy)
    hashed, plain = [], experts.fingerprint
    monkeypatch.setattr(experts, "fingerprint", lambda real: hashed.append(real) or plain(real))
    hard = replace(synthetic, labels=synthetic.classes, logits=False)
    draws = [replace(hard, images=synthetic.images.detach().roll(turn, -1)) for turn in range(3)]
    labels = [method.labelled(toy, draw).labels for draw in draws]
    assert len(hashed) == 1
    alone = [replace(method).labelled(toy, draw).labels for draw in draws]  # a method of its own
    assert all(torch.equal(a, b) for a, b in zip(labels, alone, strict=True))
    assert not torch.equal(labels[0], labels[1])
    method.labelled(replace(toy, mean=(0.5,)), hard)  # other experts
    assert len(hashed) == 1 + 3 + 1


def test_images_that_no_expert_classifies_right_are_replaced(parts, toy):
    made = parts("datm", "ipc=2")
    synthetic = empty_set(made, toy, 2, Streams(0))
    wrong = synthetic.images.roll(2, 0)  # of another class
    synthetic.images = wrong.clone()
    made.method.init(toy, synthetic, Streams(0))
    assert (synthetic.images.detach() - wrong).abs().amax((1, 2, 3)).gt(0).all()
    assert synthetic.classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_class_without_a_right_expert_is_refused(parts, toy):
    made = parts("datm", "ipc=2")
    untrained, synthetic = replace(made.method, label_epoch=0), empty_set(made, toy, 2, Streams(0))
    with pytest.raises(DataError, match=r"too few images that an expert classifies right after 0"):
        untrained.init(toy, synthetic, Streams(0))


def test_above_the_loss_limit_nothing_is_updated(parts, toy):
    method, synthetic, state = begin(parts, toy)
    strict = replace(method, loss_limit=1e-6)
    tensors = synthetic.images, synthetic.labels, synthetic.learned_lr
    before = [x.detach().clone() for x in tensors]
    metrics = strict.step(toy, synthetic, state)
    assert int(metrics["updated"]) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
    metrics = replace(method, loss_limit=100.0).step(toy, synthetic, state)
    assert int(metrics["updated"]) == 1
    assert not any(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
    assert state.iteration == 2


def test_a_resumed_state_continues_the_labels_of_the_set(parts, toy):
    method, synthetic, state = begin(parts, toy)
    method.step(toy, synthetic, state)
    saved = {name: value for name, value in state.state_dict().items()}
    _, other, resumed = begin(parts, toy)
    resumed.load_state_dict(saved)
    assert torch.equal(other.labels, synthetic.labels)
    assert torch.equal(other.learned_lr, synthetic.learned_lr)
    assert resumed.iteration == 1


def test_logits_are_stored_and_networks_see_their_softmax(parts, toy, tmp_path):
    _, synthetic, _ = begin(parts, toy)
    synthetic.images.requires_grad_(False)
    loaded = artefact.load(artefact.save(synthetic, tmp_path / "set.safetensors"))
    assert loaded.logits
    assert torch.equal(loaded.labels, synthetic.labels)
    images, targets = loaded.dataset().tensors
    assert torch.allclose(targets.sum(1), torch.ones(6))
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    own = -(synthetic.labels.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(F.cross_entropy(logits, targets), own)
    assert images.shape == (6, 1, 8, 8)


def test_hard_labels_are_not_logits(toy, tmp_path):
    rows = torch.cat([own[:1] for own in toy.class_rows])
    synthetic = replace(SyntheticSet.from_images(toy.pixels(rows), toy), logits=True)
    path = artefact.save(synthetic, tmp_path / "set.safetensors")
    with pytest.raises(artefact.ArtefactError, match="hard labels are not logits"):
        artefact.load(path)


def test_the_labels_of_a_data_set_do_not_hold_it(parts, toy):
    method = parts("datm", "ipc=1").method
    real = replace(toy)
    synthetic = SyntheticSet.from_images(real.pixels(torch.tensor([0, 1, 2])), real)
    labels = method.labelled(real, synthetic).labels
    assert torch.equal(method.labelled(real, synthetic).labels, labels)
    gone = weakref.ref(real)
    del real, synthetic
    gc.collect()
    assert gone() is None
