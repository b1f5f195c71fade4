"""DC and DSA: the loops of the algorithm, and what a step is made of."""

import pytest

from dcond.errors import ConfigError
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.dc_loops import TABLE, adapted_epochs, published_loops
from dcond.matching.engine import Engine
from dcond.methods.gradient_matching import GradientMatching
from dcond.models import ConvNet


def test_the_published_loops_and_the_rule_between_them():
    assert TABLE == {
        1: (1, 1),
        10: (10, 50),
        20: (20, 25),
        30: (30, 20),
        40: (40, 15),
        50: (50, 10),
    }
    assert published_loops(10) == (10, 50)
    assert published_loops(5) == (5, 100)
    assert published_loops(49) == (49, 10)
    assert published_loops(200) == (50, 10)


def test_the_shipped_tables_sum_as_derived():
    sums = {k: sum(adapted_epochs(i) for i in range(k - 1)) for k in (1, 10, 20, 30, 40, 50)}
    assert sums == {1: 0, 10: 190, 20: 245, 30: 295, 40: 345, 50: 395}
    older = {
        k: sum(adapted_epochs(i, old=True) for i in range(k - 1)) for k in (10, 20, 30, 40, 50)
    }
    assert older == {10: 300, 20: 355, 30: 405, 40: 455, 50: 505}


@pytest.mark.parametrize(
    ("rule", "wanted"), [("fixed", [7, 7]), ("table", [50, 40]), ("table_old", [100, 50])]
)
def test_the_inner_rules_train_as_long_as_they_say(
    rule, wanted, condense, toy, monkeypatch, caplog
):
    epochs = count_epochs(monkeypatch)
    condense("degm", toy, steps=3, steps_per_network=3, inner_epochs=7, inner=rule)
    assert epochs == wanted
    unused = f"method.inner_epochs=7 is not used with method.inner={rule}; add method.inner=fixed"
    assert (unused in caplog.messages) == (rule != "fixed")


@pytest.mark.parametrize(
    ("losses", "wanted"), [([3, 2, 1, 5], 3), ([3, 4], 1), ([3] * 60, 50), ([2, 2, 2, 9], 3)]
)
def test_the_measured_rule_stops_at_the_first_rise(losses, wanted, condense, toy, monkeypatch):
    epochs, left = count_epochs(monkeypatch), iter(losses)
    monkeypatch.setattr(GradientMatching, "_loss", staticmethod(lambda *args: next(left)))
    condense("degm", toy, steps=2, steps_per_network=2, inner="measured")
    assert epochs == [wanted]


def count_epochs(monkeypatch) -> list[int]:
    """Count the epochs of each training, without training."""
    epochs = []
    plain = GradientMatching._train

    def train(self, *args):
        epochs.append(0)
        plain(self, *args)

    def epoch(self, *args):
        epochs[-1] += 1

    monkeypatch.setattr(GradientMatching, "_train", train)
    monkeypatch.setattr(GradientMatching, "_epoch", epoch)
    return epochs


def test_each_of_degms_switches_changes_the_images_and_none_of_them_is_dc(condense, toy):
    plain = {
        "steps": 4,
        "levels": "intra",
        "distance": "rowwise",
        "inner": "fixed",
        "momentum_network": 0.0,
    }
    assert condense("degm", toy, **plain).bytes == condense("dc", toy, steps=4).bytes
    switches = [
        {"levels": "both"},
        {"distance": "rowwise_angle_and_magnitude"},
        {"inner": "measured"},
    ]
    made = {condense("degm", toy, **(plain | switch)).bytes for switch in [{}, *switches]}
    assert len(made) == 4


def test_levels_may_take_turns_by_network(condense, toy, monkeypatch):
    turns, plain = [], ClassGradients.match

    def match(*args, within, across):
        turns.append("within" if within else "across")
        assert within != across
        return plain(*args, within=within, across=across)

    monkeypatch.setattr(ClassGradients, "match", match)
    condense("degm", toy, steps=5, steps_per_network=2, inner="fixed", levels="interleaved")
    assert turns == ["within", "within", "across", "across", "within"]


def test_k_image_steps_and_k_minus_one_trainings_per_network(condense, toy, monkeypatch):
    seen = []
    plain_match, plain_train, plain_reset = (
        ClassGradients.match,
        GradientMatching._train,
        ConvNet.reset,
    )

    def match(*args, **kwargs):
        seen.append("image")
        return plain_match(*args, **kwargs)

    def train(self, *args):
        seen.append("train")
        plain_train(self, *args)

    def reset(self, *args):
        seen.append("new")
        plain_reset(self, *args)

    monkeypatch.setattr(ClassGradients, "match", match)
    monkeypatch.setattr(GradientMatching, "_train", train)
    monkeypatch.setattr(ConvNet, "reset", reset)
    condense("dc", toy, steps=7, steps_per_network=3, inner_epochs=1)
    once = ["image", "train", "image", "train", "image"]
    assert seen == [*once, "new", *once, "new", "image"]


def test_dsa_without_its_augmentation_is_dc(condense, toy):
    with_dc = condense("dc", toy, "init=real", steps=4)
    with_dsa = condense("dsa", toy, "augment=none", steps=4)
    assert with_dc.bytes == with_dsa.bytes


def test_batch_norm_networks_are_matched_with_frozen_statistics(condense, toy, batch_norms):
    condense("dsa", toy, "model.norm=batch", steps=4)
    assert len(batch_norms) == 4
    assert not any(batch_norms)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"distance": "mse"}, "GradientMatching.distance='mse' is unknown"),
        ({"momentum_network": 1.0}, "GradientMatching.momentum_network=1.0 is out of range"),
        (
            {"lr_network": 0.0},
            "GradientMatching.lr_network=0.0 is out of range; allowed: numbers above 0",
        ),
        ({"steps_per_network": 0}, "GradientMatching.steps_per_network=0 is out of range"),
        (
            {"levels": "inner"},
            "GradientMatching.levels='inner' is unknown; allowed: intra, inter, both, interleaved",
        ),
        ({"inner": "mesured"}, "GradientMatching.inner='mesured' is unknown"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        GradientMatching(
            network=ConvNet(name="c"), engine=Engine(), augment=None, steps=1, **setting
        )


def test_a_network_without_convolutions_is_refused_before_the_first_step(condense, toy):
    with pytest.raises(ConfigError, match=r"method\.distance=conv_l1 compares convolution weights"):
        condense("dc", toy, "model=mlp", distance="conv_l1")
    losses = condense("dc", toy, distance="conv_l1", steps=2).losses
    assert all(loss > 0 for loss in losses)
