"""The full real set: its images, its results, and what the cache key depends on."""

import json
from dataclasses import replace

import pytest
import torch

from dcond.augment import DiffAug
from dcond.errors import DataError
from dcond.evaluation import EvaluationProtocol, full_data
from dcond.evaluation.full_data import evaluate_full_data, full_training_set
from dcond.models import MLP, Pool
from dcond.rng import generator
from dcond.whitening import fit_whitening

PROTOCOL = EvaluationProtocol(name="quick", epochs=1, repeats=2, lr_milestones=(), best_every=1)
POOL = Pool(
    networks={
        "one": MLP(name="one", hidden=(12,), lr=0.05),
        "two": MLP(name="two", hidden=(8,), lr=0.05),
    }
)


@pytest.fixture
def trained(monkeypatch):
    """Names of the networks that were trained."""
    names = []
    evaluate = EvaluationProtocol.evaluate

    def noted(self, sets, pool, *args, **kwargs):
        names.extend(pool.networks)
        return evaluate(self, sets, pool, *args, **kwargs)

    monkeypatch.setattr(EvaluationProtocol, "evaluate", noted)
    return names


def test_every_training_image_with_its_label(toy):
    whole = full_training_set(toy)
    assert torch.equal(whole.images, toy.pixels(torch.arange(120)))
    assert torch.equal(whole.labels, toy.train.labels)
    assert (whole.mean, whole.std, whole.factor) == (toy.mean, toy.std, 1)


def test_results_are_those_of_the_protocol_on_the_full_set(toy, tmp_path):
    whole = full_training_set(toy)
    found = evaluate_full_data(PROTOCOL, POOL, toy, 3, tmp_path)
    plain = PROTOCOL.evaluate(lambda repeat: whole, POOL, toy.test, 3)
    for name in POOL.networks:
        assert found.networks[name].accuracies == plain.networks[name].accuracies
    assert found.protocol == "quick"


def test_results_are_cached(toy, tmp_path, trained):
    notes = []
    first = evaluate_full_data(PROTOCOL, POOL, toy, 0, tmp_path / "cache")
    assert trained == ["one", "two"]
    again = evaluate_full_data(PROTOCOL, POOL, toy, 0, tmp_path / "cache", progress=notes.append)
    assert trained == ["one", "two"]
    assert again == first
    assert notes == ["one 1/2", "one 2/2", "two 1/2", "two 2/2"]
    assert len(list((tmp_path / "cache").glob("full_toy_*.json"))) == 2


def test_searched_rates_are_cached(toy, tmp_path):
    protocol = replace(PROTOCOL, lr="search", search_rates=(0.01, 0.1))
    first = evaluate_full_data(protocol, POOL, toy, 0, tmp_path)
    assert set(first.networks["one"].searched) == {0.01, 0.1}
    assert evaluate_full_data(protocol, POOL, toy, 0, tmp_path) == first


@pytest.mark.parametrize(
    "protocol",
    [
        replace(PROTOCOL, epochs=2),
        replace(PROTOCOL, augment=DiffAug(["crop"])),
        replace(PROTOCOL, lr=0.2),
        replace(PROTOCOL, repeats=3),
    ],
)
def test_another_protocol_is_trained_again(protocol, toy, tmp_path, trained):
    evaluate_full_data(PROTOCOL, POOL, toy, 0, tmp_path)
    evaluate_full_data(protocol, POOL, toy, 0, tmp_path)
    assert trained == ["one", "two"] * 2


def test_another_seed_network_or_data_set_is_trained_again(toy, tmp_path, trained):
    evaluate_full_data(PROTOCOL, POOL, toy, 0, tmp_path)
    trained.clear()
    evaluate_full_data(PROTOCOL, POOL, toy, 1, tmp_path)
    assert trained == ["one", "two"]
    trained.clear()
    wider = Pool(networks=POOL.networks | {"two": replace(POOL.networks["two"], hidden=(9,))})
    evaluate_full_data(PROTOCOL, wider, toy, 0, tmp_path)
    assert trained == ["two"]
    trained.clear()
    other = replace(toy, train=replace(toy.train, images=toy.train.images.flip(0)))
    evaluate_full_data(PROTOCOL, POOL, other, 0, tmp_path)
    assert trained == ["one", "two"]


def test_data_with_another_whitening_are_trained_again(toy, tmp_path, trained):
    """That of a set: it was fitted on other images."""
    for images in (toy.train.images, toy.test.images):
        whitened = replace(toy, mean=(0.0,), std=(1.0,), whitening=fit_whitening(images))
        evaluate_full_data(PROTOCOL, POOL, whitened, 0, tmp_path)
    assert trained == ["one", "two"] * 2


def test_a_network_with_another_weight_file_is_trained_again(toy, tmp_path, trained):
    plain, file = POOL.networks["one"], tmp_path / "w.pt"
    for seed in (1, 2):
        torch.save(plain.build(toy.spec, generator(seed, "x")).state_dict(), file)
        for _ in range(2):
            pool = Pool(networks={"one": replace(plain, weights=str(file))})
            evaluate_full_data(PROTOCOL, pool, toy, 0, tmp_path)
    assert trained == ["one", "one"]


def test_augmentations_with_equal_settings_share_an_entry(toy, tmp_path, trained):
    for strength in (0.1, 0.2, 0.1):
        protocol = replace(PROTOCOL, augment=DiffAug(["crop"], crop=strength))
        evaluate_full_data(protocol, Pool(networks={"one": POOL.networks["one"]}), toy, 0, tmp_path)
    assert trained == ["one", "one"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"accuracies": 3}'])
def test_a_damaged_entry_is_replaced(content, toy, tmp_path, trained):
    pool = Pool(networks={"one": POOL.networks["one"]})
    first = evaluate_full_data(PROTOCOL, pool, toy, 0, tmp_path)
    (file,) = tmp_path.glob("*.json")
    file.write_text(content)
    assert (
        evaluate_full_data(PROTOCOL, pool, toy, 0, tmp_path).networks["one"].accuracies
        == first.networks["one"].accuracies
    )
    assert trained == ["one", "one"]
    assert json.loads(file.read_text())["networks"]["one"]["epochs"] == 1


def test_a_cache_that_cannot_be_written_is_only_a_warning(toy, tmp_path, caplog):
    (tmp_path / "cache").write_text("in the way")
    found = evaluate_full_data(PROTOCOL, POOL, toy, 0, tmp_path / "cache")
    assert len(found.networks) == 2
    assert "cannot cache accuracies on the full data in" in caplog.text


def test_full_data_that_exceeds_the_memory_is_refused(toy, monkeypatch):
    needed = 3 * 4 * 120 * 64
    monkeypatch.setattr(full_data, "free_bytes", lambda device: needed)
    full_data.check_full_data_fits(toy)
    monkeypatch.setattr(full_data, "free_bytes", lambda device: None)  # not known
    full_data.check_full_data_fits(toy)
    monkeypatch.setattr(full_data, "free_bytes", lambda device: needed - 1)
    with pytest.raises(
        DataError, match=r"all 120 real images of toy and .* 0\.0 GB are free\. Omit scores\.full"
    ):
        full_data.check_full_data_fits(toy)
