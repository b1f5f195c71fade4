"""RDED beyond the contract: which crops are chosen, against a slow loop, and how they are packed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import functional as reference

from dcond.errors import DataError
from dcond.evaluation import Teacher
from dcond.init import FromReal, Random
from dcond.methods import rded
from dcond.methods.dm import DM
from dcond.methods.rded import RDED, best_crops
from dcond.models import MLP
from dcond.multi_formation import decode
from dcond.rng import Streams
from dcond.run.condensation import Condensation
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening

TEACHER = Teacher(network=MLP(name="MLP", hidden=(12,), lr=0.1), epochs=3, batch=20)


@pytest.fixture
def method(tmp_path):
    def make(**settings):
        return RDED(teacher=TEACHER, cache=str(tmp_path), **settings)

    return make


def start(real, ipc, factor=1) -> SyntheticSet:
    images = torch.zeros(len(real.class_names) * ipc, *real.train.images.shape[1:])
    return SyntheticSet.from_images(images, real, ipc=ipc, factor=factor)


def slow(method, real, ipc, seed):
    """The images of every class, one crop at a time, in float64."""
    network = method.teacher.load_or_train(real, Path(method.cache)).network.double()
    rng = Streams(seed).initialisation
    side, f = real.spec.height, method.factor
    cell, packed = -(-side // f), []
    shape = real.train.images.shape[1:]
    mean = torch.tensor(real.mean, dtype=torch.float64).view(-1, 1, 1).expand(shape)
    around = mean if real.whitening is None else real.whitening.mean.double().view(shape)
    for c in range(len(real.class_names)):
        rows, boxes = method.candidates(real, c, ipc * f * f, rng)
        best = []
        for row, own in zip(rows, boxes, strict=True):
            image = real.train.images[row].double() / 255
            scored = []
            for box in own:
                crop = reference.resized_crop(image, *map(int, box), [cell, cell], antialias=True)
                before = (side - cell) // 2
                framed = around.clone()
                framed[:, before : before + cell, before : before + cell] = crop
                logits = network(real.spec.normalise(framed)[None])
                loss = F.cross_entropy(logits, torch.tensor([c]))
                scored.append((loss.item(), crop))
            best.append(min(scored, key=lambda pair: pair[0]))
        ranked = [crop for _, crop in sorted(best, key=lambda pair: pair[0])]
        for i in range(ipc):
            image = torch.zeros(*real.train.images.shape[1:], dtype=torch.float64)
            for k in range(f * f):
                top, left = k // f * cell, k % f * cell
                space = image[:, top : top + cell, left : left + cell]
                space.copy_(ranked[k * ipc + i][:, : space.shape[1], : space.shape[2]])
            packed.append(image)
    return torch.stack(packed)


@pytest.mark.parametrize(("factor", "images"), [(1, 300), (2, 300), (2, 9), (3, 300)])
def test_the_set_is_that_of_a_slow_loop(factor, images, toy, method):
    made = method(factor=factor, images=images, crops=4)
    synthetic = start(toy, 2, factor)
    made.init(toy, synthetic, Streams(3))
    expected = slow(made, toy, 2, 3)
    torch.testing.assert_close(synthetic.images.double(), expected, rtol=0, atol=1e-5)


def test_on_whitened_images_the_frame_is_what_becomes_0(toy, method):
    whitening = fit_whitening(toy.train.images)
    real = replace(toy, mean=(0.0,), std=(1.0,), whitening=whitening)
    made, synthetic = method(factor=2, crops=4), start(real, 2, 2)
    made.init(real, synthetic, Streams(3))
    expected = slow(made, real, 2, 3)
    torch.testing.assert_close(synthetic.images.double(), expected, rtol=0, atol=1e-5)


def test_the_best_crop_of_an_image_is_kept_and_the_best_images_come_first():
    losses = torch.tensor([[3.0, 2.0], [9.0, 0.5], [1.0, 4.0], [torch.nan, 1.5]])
    assert best_crops(losses, 4).tolist() == [[1, 1], [2, 0], [3, 1], [0, 1]]
    assert best_crops(losses, 1).tolist() == [[1, 1]]
    assert best_crops(torch.tensor([[torch.nan], [7.0]]), 1).tolist() == [[1, 0]]


def test_a_class_with_too_few_images_gives_several_crops_of_one(method, data):
    real = data((3, 40, 7))
    made = method(factor=2, crops=2)
    rows, boxes = made.candidates(real, 0, 8, Streams(0).initialisation)
    assert len(rows) == 8
    assert set(rows.tolist()) == {0, 1, 2}
    assert boxes.shape == (8, 2, 4)
    synthetic = start(real, 2, 2)
    made.init(real, synthetic, Streams(0))
    small = decode(synthetic.by_class[0], 2).flatten(1)
    assert len(small.unique(dim=0)) > 3
    run = Condensation(method=made, init=FromReal(rule=Random()), data=real, ipc=5)
    assert len(run.run().synthetic.images) == 15
    with pytest.raises(DataError, match="ipc=5 needs 5 images per class"):
        replace(run, method=DM(network=MLP(name="MLP"), steps=1, lr=1.0)).run()


def test_whole_images_are_crops_of_area_one(toy, method):
    synthetic = start(toy, 4)
    method(area=1.0, crops=1).init(toy, synthetic, Streams(0))
    for own, rows in zip(synthetic.by_class, toy.class_rows, strict=True):
        theirs = toy.pixels(rows).flatten(1)
        assert all((theirs == image.flatten()).all(1).any() for image in own)


def test_the_teacher_is_trained_once_and_is_that_of_the_evaluation(toy, method, tmp_path):
    method().init(toy, start(toy, 1), Streams(0))
    (file,) = tmp_path.glob("teacher_*.pt")
    written = file.stat().st_mtime_ns
    method(images=5).init(toy, start(toy, 1), Streams(1))
    TEACHER.load_or_train(toy, tmp_path)
    assert [each.stat().st_mtime_ns for each in tmp_path.glob("teacher_*.pt")] == [written]


def test_crops_scored_a_few_at_a_time_are_the_same(toy, method, monkeypatch):
    sets = []
    for chunk in (1000, 7):
        monkeypatch.setattr(rded, "CHUNK", chunk)
        synthetic = start(toy, 2)
        method(crops=2).init(toy, synthetic, Streams(0))
        sets.append(synthetic.images)
    torch.testing.assert_close(*sets)
