"""Teachers: the loss, the training, the cache, and students that learn from it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dcond.augment import DiffAug
from dcond.errors import ConfigError, DivergedError
from dcond.evaluation import EvaluationProtocol, Teacher
from dcond.models import MLP, Pool
from dcond.rng import generator
from dcond.training.steps import (
    SoftLabels,
    TrainingBatch,
    training_batch,
    training_batches,
    training_step,
)
from dcond.whitening import fit_whitening

NETWORK = MLP(name="MLP", hidden=(12,), lr=0.1)
TEACHER = Teacher(network=NETWORK, epochs=8, batch=20, lr_milestones=(0.5,))
FAMILIES = ["color", "crop", "cutout", "flip", "scale", "rotate"]


@pytest.fixture
def teacher(toy, tmp_path):
    return TEACHER.load_or_train(toy, tmp_path)


# --- the loss


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_loss_and_gradient_in_closed_form(temperature):
    """Labels are (1/4, 3/4); the gradient of a student at (0, 0) is T·(1/2 - p) / n."""
    teacher = torch.tensor([[0.0, temperature * math.log(3)]] * 2)
    batch = SoftLabels(lambda images: teacher, temperature).of(
        TrainingBatch(torch.zeros(2, 1, 4, 4), torch.ones(2))
    )
    torch.testing.assert_close(batch.labels, torch.tensor([[0.25, 0.75]] * 2))
    student = torch.zeros(2, 2, requires_grad=True)
    loss = batch.cross_entropy(student)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(temperature**2 * math.log(2)))
    torch.testing.assert_close(student.grad, temperature / 2 * torch.tensor([[0.25, -0.25]] * 2))
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(
        0.75
    )  # what is left where the student is as the teacher
    torch.testing.assert_close(batch.cross_entropy(teacher), torch.tensor(temperature**2 * entropy))


class Noting(nn.Module):
    """Records its inputs."""

    def __init__(self):
        super().__init__()
        self.seen, self.linear = [], nn.Linear(64, 3)

    def forward(self, x):
        self.seen.append(x)
        return self.linear(x.flatten(1))


def test_the_teacher_sees_exactly_what_the_student_sees(chosen):
    images, labels = chosen.dataset().tensors
    student, teacher = Noting(), Noting()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    rng = generator(0, "x")
    for _ in range(8):
        how = {
            "augment": DiffAug(FAMILIES, "idc"),
            "cutmix_p": 0.7,
            "rng": rng,
            "soft": SoftLabels(teacher, 2.0),
        }
        training_step(student, optimiser, images, labels, **how)
    assert len(teacher.seen) == 8
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(student.seen, teacher.seen, strict=True)
    )
    assert not any(torch.equal(images, seen) for seen in teacher.seen)


def test_batches_of_several_networks_are_labelled_as_each_alone(chosen):
    images, labels = chosen.dataset().tensors
    soft = SoftLabels(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 3.0)
    rngs = [[generator(r, "x") for r in range(3)] for _ in range(2)]
    both = torch.stack([images] * 3), torch.stack([labels] * 3)
    together = soft.of(training_batches(*both, DiffAug(FAMILIES), 0.5, rngs[0]))
    assert (together.labels.shape, together.partners, together.temperature) == (
        (3, 6, 3),
        None,
        3.0,
    )
    for r in range(3):
        alone = soft.of(training_batch(images, labels, DiffAug(FAMILIES), 0.5, rngs[1][r]))
        torch.testing.assert_close(together.labels[r], alone.labels)


# --- the teacher


def test_the_teacher_is_accurate_and_reports_its_facts(teacher):
    assert teacher.facts["accuracy"] > 0.9
    facts = {"temperature": 4.0, "network": "MLP", "lr": 0.1, "epochs": 8, "seed": 0}
    assert teacher.facts.items() >= facts.items()
    assert not teacher.network.training


def weights(teacher):
    return torch.cat([value.flatten() for value in teacher.network.state_dict().values()])


def test_training_is_deterministic(teacher, toy, tmp_path):
    before = torch.random.get_rng_state()
    assert torch.equal(
        weights(teacher), weights(TEACHER.load_or_train(toy, tmp_path / "elsewhere"))
    )
    assert not torch.equal(
        weights(teacher), weights(replace(TEACHER, seed=1).load_or_train(toy, tmp_path))
    )
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture
def trained(monkeypatch):
    """Teachers that were trained, in order."""
    times = []
    train = Teacher._train
    monkeypatch.setattr(
        Teacher, "_train", lambda self, *args: times.append(self) or train(self, *args)
    )
    return times


def test_weights_are_cached_for_any_temperature(teacher, toy, tmp_path, trained):
    again = replace(TEACHER, temperature=20.0).load_or_train(toy, tmp_path)
    assert trained == []
    assert torch.equal(weights(again), weights(teacher))
    assert again.facts == teacher.facts | {"temperature": 20.0}
    assert again.temperature == 20.0
    (file,) = tmp_path.glob("*")
    assert file.name.startswith("teacher_toy_MLP_")


def test_other_settings_and_other_data_are_another_teacher(teacher, toy, tmp_path, trained):
    other = replace(toy, train=replace(toy.train, images=toy.train.images.flip(0)))
    replace(TEACHER, epochs=7).load_or_train(toy, tmp_path)
    replace(TEACHER, network=replace(NETWORK, hidden=(13,))).load_or_train(toy, tmp_path)
    replace(TEACHER, augment=DiffAug(["crop"])).load_or_train(toy, tmp_path)
    TEACHER.load_or_train(other, tmp_path)
    assert len(trained) == 4


def test_another_weight_file_is_another_teacher(toy, tmp_path, trained):
    file = tmp_path / "w.pt"
    for seed in (1, 2):
        torch.save(NETWORK.build(toy.spec, generator(seed, "x")).state_dict(), file)
        for _ in range(2):
            replace(TEACHER, network=replace(NETWORK, weights=str(file))).load_or_train(
                toy, tmp_path / "cache"
            )
    assert len(trained) == 2


def test_a_damaged_cache_file_is_replaced(teacher, toy, tmp_path, trained):
    (file,) = tmp_path.glob("*")
    assert TEACHER.is_cached(toy, tmp_path)
    for content in (b"", b"PK\x03\x04", file.read_bytes()[:-200]):
        file.write_bytes(content)
        assert not TEACHER.is_cached(toy, tmp_path)
        assert torch.equal(weights(TEACHER.load_or_train(toy, tmp_path)), weights(teacher))
    torch.save({"weights": {"x": torch.zeros(1)}, "facts": {}}, file)
    assert torch.equal(weights(TEACHER.load_or_train(toy, tmp_path)), weights(teacher))
    assert len(trained) == 4


def test_a_cache_that_cannot_be_written_is_only_a_warning(toy, tmp_path, caplog):
    (tmp_path / "cache").write_text("in the way")
    assert TEACHER.load_or_train(toy, tmp_path / "cache").facts["accuracy"] > 0.9
    assert "cannot cache the teacher in" in caplog.text


def test_a_diverging_teacher_is_an_error_and_not_cached(toy, tmp_path):
    with pytest.raises(DivergedError) as error:
        replace(TEACHER, lr=1e30).load_or_train(toy, tmp_path)
    assert str(error.value) == (
        "teacher MLP: its weights are not finite after epoch 1 of 8 (lr 1e+30); "
        "try a smaller lr of the teacher."
    )
    assert list(tmp_path.iterdir()) == []


def test_cached_non_finite_weights_are_replaced(teacher, toy, tmp_path, trained):
    (file,) = tmp_path.glob("*")
    content = torch.load(file, weights_only=True)
    next(iter(content["weights"].values())).view(-1)[0] = torch.nan
    torch.save(content, file)
    assert torch.equal(weights(TEACHER.load_or_train(toy, tmp_path)), weights(teacher))
    assert len(trained) == 1


def test_a_teacher_near_chance_gives_a_warning_on_every_use(toy, tmp_path, caplog):
    other = replace(
        toy, test=replace(toy.test, labels=(toy.test.labels + 1) % 3)
    )  # of which it knows nothing
    for _ in range(2):
        shown = f"{100 * TEACHER.load_or_train(other, tmp_path).facts['accuracy']:.1f} %"
    assert [line for line in caplog.messages if "near chance" in line] == 2 * [
        f"teacher MLP: test accuracy {shown} is near chance (33.3 %), so its labels carry "
        "little information; try another lr of the teacher, or more epochs"
    ]
    TEACHER.load_or_train(toy, tmp_path)
    assert caplog.text.count("near chance") == 2


@pytest.mark.parametrize("whitened", [False, True])
def test_images_with_another_normalisation_get_the_same_labels(whitened, teacher, toy, chosen):
    whitening = fit_whitening(toy.train.images) if whitened else None
    other = replace(chosen, mean=(0.1,), std=(0.7,), whitening=whitening)
    ours, theirs = (
        teacher.soft_labels(one.spec)
        .of(TrainingBatch(one.spec.normalise(one.images), one.labels))
        .labels
        for one in (chosen, other)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "Teacher.temperature=0 is out of range; allowed: numbers above 0."),
        ({"lr": -1.0}, "Teacher.lr=-1.0 is out of range; allowed: numbers above 0, null."),
        ({"epochs": 0}, "Teacher.epochs=0 is out of range; allowed: whole numbers from 1."),
        (
            {"optimiser": "adam"},
            "Teacher.optimiser='adam' is unknown; allowed: sgd, adamw. Did you mean 'adamw'?",
        ),
        (
            {"lr_milestones": (1.0,)},
            "Teacher.lr_milestones=[1.0] is out of range; allowed: fractions of the epochs above 0, below 1.",
        ),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        Teacher(**({"network": NETWORK, "epochs": 1} | settings))
    assert str(error.value) == message


# --- under a protocol


def test_students_learn_the_teachers_labels_in_place_of_the_sets(teacher, toy, chosen):
    """Also with packed images and a searched rate."""
    wrong = replace(chosen, labels=(chosen.labels + 1) % 3)
    alone = EvaluationProtocol(name="x", epochs=40, repeats=2, lr_milestones=(), lr=0.1)
    pool = Pool(networks={"one": NETWORK})
    assert alone.evaluate(lambda repeat: wrong, pool, toy.test, 0).average < 0.3
    found = replace(alone, teacher=TEACHER).evaluate(
        lambda repeat: wrong, pool, toy.test, 0, teacher=teacher
    )
    assert found.average > 0.7
    assert found.as_dict()["teacher"] == teacher.facts
    assert (
        alone.evaluate(lambda repeat: chosen, pool, toy.test, 0, teacher=teacher).teacher is None
    )  # the protocol has no teacher


def test_results_are_reproducible(teacher, toy, chosen):
    protocol = EvaluationProtocol(
        name="x", epochs=3, repeats=2, lr_milestones=(), cutmix_p=0.5, teacher=TEACHER
    )
    pool = Pool(networks={"one": NETWORK})
    twice = [
        protocol.evaluate(lambda repeat: chosen, pool, toy.test, 0, teacher=teacher)
        for _ in range(2)
    ]
    assert twice[0].networks["one"].accuracies == twice[1].networks["one"].accuracies


def test_a_missing_trained_teacher_is_refused(toy, chosen):
    protocol = EvaluationProtocol(name="x", epochs=1, teacher=TEACHER)
    with pytest.raises(ConfigError, match="a protocol with a teacher needs a trained one"):
        protocol.evaluate(lambda repeat: chosen, Pool(networks={"one": NETWORK}), toy.test, 0)


def test_an_augmentation_of_ones_own_is_another_teacher(toy, tmp_path):
    class Mine(DiffAug):
        pass

    files = {
        replace(TEACHER, augment=kind(["crop"]))._file(toy, tmp_path) for kind in (DiffAug, Mine)
    }
    assert len(files) == 2
