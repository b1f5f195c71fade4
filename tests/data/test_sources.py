"""Digits, statistics, splits, and the sets that torchvision fetches."""

import socket

import numpy as np
import pytest
import torch

from dcond.data import Digits, TorchvisionSet
from dcond.data.fingerprint import fingerprint
from dcond.data.prepared import check_prepared, write_prepared
from dcond.data.split import stratified_split
from dcond.data.statistics import LEGACY, STD_FLOOR, level_counts, moments, statistics, zca
from dcond.errors import ConfigError, DataError
from dcond.rng import generator
from dcond.types import Split


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


def test_digits_sizes_and_levels(digits):
    assert digits.train.images.shape == (1257, 1, 8, 8)
    assert len(digits.test) == 540
    assert digits.class_names == tuple("0123456789")
    levels = set(digits.train.images.unique().tolist())
    assert levels == {round(level * 255 / 16) for level in range(17)}


def test_digits_split_is_stratified_disjoint_and_its_seed_matters(digits):
    counts = torch.bincount(digits.test.labels)
    total = counts + torch.bincount(digits.train.labels)
    assert (counts - total * 540 / 1797).abs().max() < 1
    torch.testing.assert_close(Digits().load().test.images, digits.test.images, rtol=0, atol=0)
    assert not torch.equal(Digits(split_seed=1).load().test.images, digits.test.images)


def test_loading_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    Digits().load()
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_split_keeps_a_training_image_in_every_class():
    labels = np.array([0] * 10 + [1] + [2] * 3)
    train, test = stratified_split(labels, 7, seed=0)
    assert set(labels[train]) == {0, 1, 2}
    assert len(test) == 7
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(14))


def test_statistics_equal_a_plain_computation():
    images = torch.randint(
        0, 256, (300, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = moments(level_counts(images.split(70), 3))
    plain = images.double() / 255
    torch.testing.assert_close(
        torch.tensor(mean).double(), plain.mean((0, 2, 3)), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        torch.tensor(std).double(), plain.std((0, 2, 3), correction=0), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("level", "told"), [(1, True), (5, True), (60, False), (255, False)])
def test_nearly_black_images_are_a_warning(level, told, caplog):
    """Pixels 0 and 1 saved as bytes are 0 and 1 / 255: a set of them trains, and on nothing."""
    images = (torch.rand(20, 1, 8, 8, generator=generator(0, "dark")) < 0.5).to(torch.uint8) * level
    statistics(Split(images, torch.zeros(20, dtype=torch.long)), "pixel", "mine")
    assert ("mine: training images are nearly black" in caplog.text) == told


def test_images_whose_covariance_exceeds_the_memory_are_not_whitened(monkeypatch, toy):
    monkeypatch.setattr("dcond.data.statistics.free_bytes", lambda device: 4 * 8 * 64**2)
    assert zca(toy.train).mean.shape == (64,)
    monkeypatch.setattr("dcond.data.statistics.free_bytes", lambda device: 4 * 8 * 64**2 - 1)
    with pytest.raises(
        DataError, match=r"ZCA of images of 64 values .* a smaller dataset\.size, or dataset\.stats"
    ):
        zca(toy.train)


def test_constant_channel_does_not_divide_by_zero():
    mean, std = moments(level_counts([torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)], 1))
    assert mean == pytest.approx((0.2,))
    assert std == (STD_FLOOR,)


def test_legacy_statistics_are_published_constants_or_refused():
    with pytest.raises(
        ConfigError, match=r"stats=legacy has no published constants for 'digits'; allowed: mnist"
    ):
        Digits(stats="legacy")
    with pytest.raises(
        ConfigError, match=r"Digits.stats='legasy' is unknown.*Did you mean 'legacy'"
    ):
        Digits(stats="legasy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"test_count": 5},
            "Digits.test_count=5 is out of range; allowed: whole numbers from 10, up to 1700",
        ),
        ({"test_count": "many"}, "Digits.test_count='many' must be a whole number"),
        (
            {"split_seed": "abc"},
            "Digits.split_seed='abc' must be a whole number",
        ),
        ({"name": "a/b"}, "dataset.name='a/b' cannot be part of a file name"),
        ({"flip": "maybe"}, "Digits.flip='maybe' must be true or false"),
    ],
)
def test_bad_settings_are_refused_when_made(settings, message):
    with pytest.raises(ConfigError, match=message):
        Digits(**settings)


class FakeSVHN:
    """As torchvision's SVHN: channels first, ``labels``, ``split=``, no ``classes``."""

    calls = 0

    def __init__(self, root, split="train", download=False):
        assert download
        type(self).calls += 1
        count = {"train": 8, "test": 4}[split]
        self.data = np.arange(count * 48, dtype=np.uint8).reshape(count, 3, 4, 4)
        self.labels = np.arange(count) % 4


class FakeMNIST:
    """As torchvision's MNIST: tensors without a channel axis, ``targets``, ``train=``, ``classes``."""

    classes = ("0 - zero", "1 - one")

    def __init__(self, root, train=True, download=False):
        count = 6 if train else 2
        self.data = torch.arange(count * 9, dtype=torch.uint8).reshape(count, 3, 3)
        self.targets = torch.arange(count) % 2


@pytest.fixture
def fakes(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets, "SVHN", FakeSVHN)
    monkeypatch.setattr(datasets, "MNIST", FakeMNIST)
    monkeypatch.setattr(FakeSVHN, "calls", 0)


def test_fetched_once_then_read_from_the_prepared_form(fakes, tmp_path):
    dataset = TorchvisionSet(name="svhn", source="SVHN", data_dir=str(tmp_path), stats="legacy")
    first = dataset.load()
    assert (tmp_path / "svhn.npz").is_file()
    again = dataset.load()
    assert FakeSVHN.calls == 2  # one per split, not four
    assert dataset.prepare() == tmp_path / "svhn.npz"
    assert torch.equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(
        first.train.images.numpy(), FakeSVHN(tmp_path, download=True).data
    )
    assert first.class_names == ("0", "1", "2", "3")
    assert (first.mean, first.std) == LEGACY["svhn"]


def test_a_prepared_file_of_another_source_is_refused(fakes, tmp_path):
    """A file of that name, made by another setting, would be taken for this set for ever."""
    given = {"name": "fake", "data_dir": str(tmp_path)}
    TorchvisionSet(source="SVHN", **given).prepare()
    with pytest.raises(
        DataError, match=r"fake.npz holds torchvision's SVHN, but dataset.source=MNIST; give"
    ):
        TorchvisionSet(source="MNIST", **given).load()


def test_names_come_from_the_config_or_torchvision(fakes, tmp_path):
    assert (
        TorchvisionSet(name="a", source="MNIST", data_dir=str(tmp_path)).load().class_names
        == FakeMNIST.classes
    )
    named = TorchvisionSet(
        name="b", source="MNIST", data_dir=str(tmp_path), class_names=["zero", "one"]
    )
    assert named.load().class_names == ("zero", "one")


def test_names_that_a_prepared_file_does_not_have_are_refused(fakes, tmp_path):
    given = {"name": "fake", "source": "MNIST", "data_dir": str(tmp_path)}
    TorchvisionSet(class_names=["zero", "one"], **given).prepare()
    assert TorchvisionSet(**given).load().class_names == ("zero", "one")
    for verb in ("load", "prepare"):
        with pytest.raises(DataError) as error:
            getattr(TorchvisionSet(class_names=["one", "zero"], **given), verb)()
        assert str(error.value) == (
            f"{tmp_path / 'fake.npz'} holds the classes zero, one, but dataset.class_names=[one, zero]; "
            "give this set another dataset.name, or remove the file to prepare it again."
        )


def test_without_network_the_error_says_how_to_prepare_elsewhere(
    fakes, tmp_path, monkeypatch, capsys
):
    def offline(self, root, train=True, download=False):
        print("Failed to download (trying next):")
        raise RuntimeError("Error downloading x:\n<urlopen error>")

    monkeypatch.setattr(FakeMNIST, "__init__", offline)
    timeout = socket.getdefaulttimeout()
    with pytest.raises(DataError) as caught:
        TorchvisionSet(name="mnist", source="MNIST", data_dir=str(tmp_path)).load()
    message = str(caught.value)
    assert "mnist could not be fetched (Error downloading x: <urlopen error>)" in message
    assert (
        "Run 'dcond data prepare mnist' (other settings as here) on a machine with a network, then "
        "copy mnist.npz to" in message
    )
    assert str(tmp_path) in message
    assert "DCOND_DATA" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""
    assert socket.getdefaulttimeout() == timeout
    assert not (tmp_path / "mnist.npz").exists()


def test_unknown_torchvision_class_is_suggested(fakes, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"dataset.source='SVHNN' is not a data set of torchvision.*Did you mean 'SVHN'",
    ):
        TorchvisionSet(name="x", source="SVHNN", data_dir=str(tmp_path)).load()


def test_legacy_constants_need_as_many_channels(tmp_path):
    grey = np.zeros((2, 4, 4, 1), np.uint8)
    label = np.array([0, 1])
    data = {"train_images": grey, "train_labels": label, "test_images": grey, "test_labels": label}
    write_prepared(tmp_path / "cifar10.npz", check_prepared(data))
    dataset = TorchvisionSet(
        name="cifar10", source="CIFAR10", data_dir=str(tmp_path), stats="legacy"
    )
    with pytest.raises(
        DataError, match=r"stats=legacy has 3 channel\(s\) for 'cifar10', but the images have 1"
    ):
        dataset.load()


def test_zca_whitens_in_place_of_mean_and_std():
    plain, whitened = (Digits(name="digits", stats=stats).load() for stats in ("pixel", "zca"))
    assert plain.whitening is None
    assert (whitened.mean, whitened.std) == ((0.0,), (1.0,))
    images = whitened.normalised(torch.arange(len(whitened.train)))
    assert float(images.mean(0).abs().max()) < 1e-5
    assert torch.allclose(
        whitened.spec.denormalise(images), plain.pixels(torch.arange(len(plain.train))), atol=1e-4
    )
    assert fingerprint(whitened) != fingerprint(plain)
    assert whitened.to(torch.device("cpu")).spec.whitening is not None


class FakeFlowers(FakeSVHN):
    """As torchvision's Flowers102: its images are files."""

    def __init__(self, root, split="train", download=False):
        super().__init__(root, split, download)
        del self.data


@pytest.mark.parametrize(
    "source", ["EuroSAT", "FakeData", "ImageFolder", "folder", "Flowers102", "EMNIST", "ImageNet"]
)
def test_torchvision_classes_of_another_kind_are_refused(source, tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets, "Flowers102", FakeFlowers)
    with pytest.raises(ConfigError) as error:
        TorchvisionSet(name="x", source=source, data_dir=str(tmp_path)).prepare()
    assert str(error.value) == (
        f"dataset.source={source!r} cannot be used; allowed: classes of torchvision.datasets that "
        "take download= and train= or split=, and hold data and targets or labels, as CIFAR10. "
        "Use dataset=image_folder or dataset=npz instead."
    )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mnist", "'dcond data prepare mnist' (other settings as here)"),
        ("mine", "'dcond data prepare NAME dataset.name=mine' (NAME and other settings as here)"),
    ],
)
def test_a_renamed_set_is_prepared_under_its_option(name, command, tmp_path):
    dataset = TorchvisionSet(name=name, source="MNIST", data_dir=str(tmp_path))
    assert dataset.elsewhere.startswith(f"Run {command} on a machine with a network, then copy")
