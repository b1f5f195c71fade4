"""The table a person reads, on a terminal of 80 columns."""

import io
import re
from dataclasses import replace
from unittest.mock import Mock

import pytest
from rich.console import Console

from dcond.evaluation import EvalResult, NetworkResult
from dcond.run.tables import Tables, cross_architecture


def network(*accuracies) -> NetworkResult:
    return NetworkResult(accuracies, 0.01, 300, 1.0)


def found(conv, mlp) -> EvalResult:
    return EvalResult("quick", {"ConvNet": network(*conv), "MLP": network(*mlp)})


OURS = found((0.90, 0.92, 0.94), (0.80, 0.80, 0.80))
RANDOM = found((0.70, 0.71, 0.72), (0.5, 0.5, 0.5))
SHRUNKEN = found((0.60, 0.60, 0.60), (0.9, 0.9, 0.9))


def render(baselines, ours=OURS, title="m3d on digits, 1 image(s) per class", **more) -> list[str]:
    file = io.StringIO()
    table = cross_architecture(title, ours, baselines, **more)
    Console(width=80, file=file).print(table)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    return [line for line in lines if line.strip(" ─")]


def cells(line: str) -> list[str]:
    return line.replace(" ± ", "±").replace("random, shrunken", "random,shrunken").split()


def test_a_row_per_network_a_column_per_set_and_the_gain_over_the_best_baseline():
    lines = render({"random": RANDOM, "random_decoded": SHRUNKEN})
    assert lines[0] == "m3d on digits, 1 image(s) per class"
    assert [cells(line) for line in lines[1:5]] == [
        ["network", "condensed", "random", "random,shrunken", "gain"],
        ["ConvNet", "92.0±5.0", "71.0±2.5", "60.0±0.0", "+21.0"],
        ["MLP", "80.0±0.0", "50.0±0.0", "90.0±0.0", "-10.0"],
        ["average", "86.0", "60.5", "75.0", "+11.0"],
    ]
    caption = " ".join(" ".join(lines[5:]).split())
    assert caption == (
        "test accuracy %, mean ± 95 % interval over 3 trainings of each network, last epoch, protocol quick; gain over the "
        "better of the baselines"
    )


def test_classes_that_are_never_tested_are_in_the_caption():
    caption = " ".join(" ".join(render({}, untested="'c[b]' (2)")[-2:]).split())
    assert caption.endswith("protocol quick; no test image of class 'c[b]' (2)")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("hard", "the set has soft labels, random images have hard ones"),
        ("as datm", "random images have soft labels of the networks that labelled the set"),
    ],
)
def test_the_caption_says_how_random_images_are_labelled(labels, said):
    random = replace(RANDOM, labels=labels)
    caption = " ".join(" ".join(render({"random": random})[5:]).split())
    assert caption.endswith(f"protocol quick; {said}")


def test_the_caption_of_one_network_names_no_interval():
    caption = " ".join(" ".join(render({}, ours=found((0.9,), (0.8,)))[-2:]).split())
    assert caption.endswith(
        "test accuracy %, one training of each network, no interval, last epoch, protocol quick"
    )


def test_one_baseline_alone():
    assert cells(render({"random": RANDOM})[1]) == ["network", "condensed", "random", "gain"]


def test_without_baselines_there_is_no_gain():
    rows = [cells(line) for line in render({})]
    assert ["network", "condensed"] in rows
    assert ["average", "86.0"] in rows


def test_one_repeat_has_no_interval():
    single = found((0.5,), (0.25,))
    assert ["ConvNet", "50.0"] in [cells(line) for line in render({}, single)]


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [
        ((0.5123,), "51.2"),
        ((1.0, 1.0), "100.0 ± 0.0"),
        ((0.0,), "0.0"),
        ((0.50, 0.52, 0.54), "52.0 ± 5.0"),
    ],
)
def test_per_cent(accuracies, text):
    assert network(*accuracies).percent() == text


def test_names_are_shown_as_they_are():
    """Nothing in them is taken for markup."""
    ours = EvalResult(
        "mine [x]", {"[/MLP]": network(0.5)}, {"network": "[b]", "accuracy": 0.5, "temperature": 4}
    )
    shown = "".join(render({}, ours, "house [red] on [/INST]"))
    for text in ("house [red] on [/INST]", "[/MLP]", "protocol mine [x]", "([b], 50.0 %)"):
        assert text.replace(" ", "") in shown.replace(" ", "")


def test_brackets_in_names_are_no_markup():
    shown = Tables(parts=["average 50.0 % (R18[a] 50.0, x[/b] 50.0)"])
    assert str(shown) == "average 50.0 % (R18[a] 50.0, x[/b] 50.0)"
    assert "R18[a]" in re.sub("<.*?>", "", shown._repr_html_())


def test_a_notebook_shows_a_table_once(monkeypatch):
    """Rich takes a class of this name for Jupyter's, and shows there what it prints."""
    shell = type("ZMQInteractiveShell", (), {"__module__": "ipykernel.zmqshell"})
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    displayed = Mock()
    monkeypatch.setattr("rich.jupyter.display", displayed)
    assert str(Tables(parts=["average 50.0 %"])) == "average 50.0 %"
    displayed.assert_not_called()
