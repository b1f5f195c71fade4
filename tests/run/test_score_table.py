"""Tables of scores and of two sets, on a terminal of 80 columns."""

import io

from rich.console import Console

from dcond.evaluation import EvalResult, NetworkResult
from dcond.evaluation.results import compare
from dcond.evaluation.scores import scores
from dcond.run.tables import comparison_table, score_table


def found(conv, mlp) -> EvalResult:
    return EvalResult(
        "quick", {n: NetworkResult(x, 0.01, 300, 1.0) for n, x in (("ConvNet", conv), ("MLP", mlp))}
    )


def render(table) -> list[list[str]]:
    file = io.StringIO()
    Console(width=80, file=file).print(table)
    lines = file.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    return [
        line.replace(" ± ", "±").replace("whole data", "whole_data").split()
        for line in lines
        if line.strip(" ─")
    ]


OURS, RANDOM = found((0.6, 0.6), (0.4, 0.4)), found((0.5, 0.5), (0.1, 0.1))


def test_scores():
    full = found((0.9, 0.9), (0.8, 0.8))
    results = {"condensed": OURS, "hard_labels": OURS, "random": RANDOM, "full": full}
    lines = render(score_table(scores(results), full))
    assert lines[0] == ["network", "whole_data", "IOR", "HLR", "LRS"]
    assert lines[1] == ["ConvNet", "90.0±0.0", "10.0", "30.0", "22.8"]
    assert lines[3][:4] == ["average", "85.0", "20.0", "35.0"]


def test_scores_that_are_null_have_no_column():
    results = {
        "condensed": OURS,
        "random": RANDOM,
        "condensed_unaugmented": OURS,
        "random_unaugmented": RANDOM,
    }
    lines = render(score_table(scores(results), None))
    assert lines[0] == ["network", "IOR", "ARS"]


def test_two_sets():
    other = found((0.5, 0.52), (0.4, 0.42))
    lines = render(comparison_table(("m3d", "dm"), OURS, other, compare(OURS, other)))
    assert lines[0] == ["network", "m3d", "dm", "difference"]
    assert lines[1] == ["ConvNet", "60.0±0.0", "51.0±12.7", "+9.0±12.7"]
    assert lines[3] == ["average", "50.0", "46.0", "+4.0±12.7"]
    clear = compare(OURS, RANDOM)
    assert render(comparison_table(("m3d", "dm"), OURS, RANDOM, clear))[1][-2:] == [
        "+10.0±0.0",
        "*",
    ]


def test_long_names_are_folded():
    names = (
        "res_DC_CIFAR10_ConvNet_10ipc_of_a_long_name",
        "res_DSA_CIFAR10_ConvNet_10ipc_of_a_long_name",
    )
    assert render(comparison_table(names, OURS, RANDOM, compare(OURS, RANDOM)))


def test_names_are_shown_as_they_are():
    """Nothing in them is taken for markup."""
    ours, other = (
        EvalResult("quick", {"[/MLP]": NetworkResult((x,), 0.01, 300, 1.0)}) for x in (0.5, 0.4)
    )
    lines = render(comparison_table(("house[red]", "[/INST]"), ours, other, compare(ours, other)))
    assert lines[0] == ["network", "house[red]", "[/INST]", "difference"]
    assert lines[1][0] == "[/MLP]"
    assert render(score_table(scores({"condensed": ours, "random": other}), None))[1][0] == "[/MLP]"
