"""Figures: which are drawn, their texts, and that their bytes depend on the numbers only."""

import io
import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from dcond.report.collect import collect
from dcond.report.figure_style import line_style
from dcond.report.figures import MAX_POINTS, draw, read_curves
from dcond.report.grouping import build_report
from dcond.report.html import MAX_PIXELS, picture


@pytest.fixture
def drawn(tmp_path):
    """Return a function that draws all results written so far."""

    def draw_all():
        report = build_report(collect([tmp_path]))
        return {drawing.name: drawing for drawing in draw(report, read_curves(report.runs))}

    return draw_all


def write_losses(folder, losses):
    lines = [
        json.dumps({"step": 10 * (index + 1), "condense/loss": loss})
        for index, loss in enumerate(losses)
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 99, "conde']))


@pytest.fixture
def study(write_result):
    """Write two methods at two ipc, with costs and losses."""
    for method, wall in (("dm", 30.0), ("random", 0.0)):
        for ipc in (1, 10):
            for seed in (0, 1):
                cost = {"condense_wall_s": wall}
                means = {"ConvNet": 0.5 + seed / 50, "MLP": 0.4}
                name = f"{method}{ipc}{seed}"
                folder = write_result(
                    name,
                    means,
                    method=method,
                    ipc=ipc,
                    seed=seed,
                    cost=cost,
                    baselines={"random": means},
                )
                if wall:
                    write_losses(folder, [3.0, 2.0, 1.0 / ipc])


def texts(svg):
    """Return all texts of a figure."""
    return {
        "".join(node.itertext()).strip()
        for node in ElementTree.fromstring(svg).iter()
        if node.tag.endswith("text")
    }


@pytest.fixture(scope="module")
def kept():
    """What several tests look at, made once."""
    return {}


@pytest.fixture
def figures(study, drawn, kept):
    """The figures of the study."""
    if not kept:
        kept.update(drawn())
    return kept


def test_four_figures_with_labels_and_units(figures):
    assert list(figures) == [
        f"{kind}_digits_quick"
        for kind in ("accuracy_over_ipc", "accuracy_over_cost", "networks", "loss")
    ]
    over_ipc, over_cost, networks, loss = (texts(drawing.svg) for drawing in figures.values())
    assert {"images per class", "mean test accuracy, %", "1", "10", "dm", "random"} <= over_ipc
    assert "random real images" in over_ipc
    bars = "mean over the runs; error bars: 95 % interval of the mean"
    assert bars in over_ipc & over_cost
    assert {"condensing, s", "mean test accuracy, %", "ipc 1", "ipc 10", "0"} <= over_cost
    assert {"mean test accuracy, %", "ConvNet", "MLP", "51.0", "40.0"} <= networks
    assert {"step", "loss", "dm, ipc 1", "dm, ipc 10"} <= loss
    assert not {"random, ipc 1"} & loss
    for drawing in figures.values():
        with Image.open(io.BytesIO(drawing.png)) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
            assert max(image.size) < 4000


def test_the_bytes_depend_on_the_numbers_alone(figures, drawn):
    assert figures == drawn()
    assert not [drawing for drawing in figures.values() if "<dc:date>" in drawing.svg]


def test_held_out_accuracies_are_named(write_result, drawn):
    write_result("a", {"A": 0.5}, tested_on="held_out")
    ((name, drawing),) = drawn().items()
    assert name == "networks_digits_quick_held_out"
    assert drawing.title.endswith(", tested on held-out images")
    assert "mean held-out accuracy, %" in texts(drawing.svg)


def test_empty_figures_are_omitted(write_result, drawn):
    write_result("a", {"A": 0.5})
    assert list(drawn()) == ["networks_digits_quick"]  # one ipc, no cost, no curve
    write_result("b", status="failed", error="x", dataset="mnist")
    assert list(drawn()) == ["networks_digits_quick"]


def test_equal_file_names_are_numbered(write_result, drawn):
    write_result("a", {"A": 0.5}, dataset="x/y")
    write_result("b", {"A": 0.5}, dataset="x:y")
    assert list(drawn()) == ["networks_x_y_quick", "networks_x_y_quick_2"]


def test_special_characters_in_names_are_drawn_literally(write_result, drawn):
    for seed, name in enumerate(("_hidden", "$x_1", "$\\frac{", "<script>&", "素描", "long " * 40)):
        for ipc in (1, 10):
            write_result(f"{seed}{ipc}", {"$A": 0.5, "_B": 0.5}, method=name, ipc=ipc, seed=0)
    found = drawn()
    shown = texts(found["accuracy_over_ipc_digits_quick"].svg)
    assert {"\u200b_hidden", "$x_1", "$\\frac{", "<script>&", "素描"} <= shown
    assert not any("<script>" in drawing.svg for drawing in found.values())


def test_more_rows_than_colours_are_still_a_figure(write_result, drawn):
    for index in range(10):
        for ipc in (1, 50):
            write_result(f"{index}_{ipc}", {"A": index / 10}, ipc=ipc, method=f"method{index}")
    found = drawn()
    assert {f"method{index}" for index in range(10)} <= texts(
        found["accuracy_over_ipc_digits_quick"].svg
    )


def test_points_of_more_rows_than_colours_differ():
    """The figure over cost has no lines whose dashes could tell them apart."""
    looks = {(style["color"], style["marker"]) for style in map(line_style, range(64))}
    assert len(looks) == 64


def test_a_long_legend_is_below_the_panel(write_result, drawn):
    for index in range(45):
        for ipc in (1, 50):
            write_result(f"{index}_{ipc}", {"A": 0.5}, ipc=ipc, method=f"method{index}")
    svg = ElementTree.fromstring(drawn()["accuracy_over_ipc_digits_quick"].svg)
    texts = [node for node in svg.iter() if node.tag.endswith("text")]
    height = {"".join(node.itertext()).strip(): float(node.get("y")) for node in texts}
    names = [y for name, y in height.items() if name.startswith("method")]
    assert len(names) == 45
    assert height["images per class"] < min(names)
    assert height["images per class"] > 150  # the panel keeps its height


def test_a_short_axis_of_cost_has_ticks(write_result, drawn):
    write_result("a", {"A": 0.5}, cost={"condense_wall_s": 22.0})
    assert {"0", "30", "40"} <= texts(drawn()["accuracy_over_cost_digits_quick"].svg)


def test_ticks_of_near_costs_do_not_overlap(write_result, drawn):
    write_result("a", {"A": 0.5}, cost={"condense_wall_s": 604.0})
    shown = texts(drawn()["accuracy_over_cost_digits_quick"].svg)
    assert {"0", "700", "1000"} <= shown
    assert not {"800", "900"} & shown


def test_unreadable_lines_of_a_curve_are_skipped(write_result, tmp_path):
    folder = write_result("a", {"A": 0.5})
    lines = [
        '{"step": 1, "condense/loss": 2.0}',
        '{"step": 2}',
        "[]",
        '{"step": 3, "condense/loss": NaN}',
        "x",
        "",
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "condense/loss": 1.5}']))
    write_result("b", {"A": 0.5})
    write_losses(write_result("c", {"A": 0.5}), [])
    (curve,) = read_curves(collect([tmp_path]).runs)
    assert (curve.folder, curve.steps, curve.losses) == (folder, (1, 4), (2.0, 1.5))


def test_a_long_curve_is_thinned_and_keeps_its_ends(write_result, tmp_path):
    write_losses(write_result("a", {"A": 0.5}), [1.0] * 5000)
    (curve,) = read_curves(collect([tmp_path]).runs)
    assert (curve.steps[0], curve.steps[-1]) == (10, 50_000)
    assert MAX_POINTS / 2 < len(curve.steps) <= MAX_POINTS + 50


def test_a_picture_is_shrunk_if_large_and_absent_if_none(tmp_path):
    import base64

    assert picture(tmp_path) is None
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n half"):
        (tmp_path / "grid.png").write_bytes(content)
        assert picture(tmp_path) is None
    for size, shown in (
        ((64, 32), (64, 32)),
        ((4 * MAX_PIXELS, MAX_PIXELS), (MAX_PIXELS, MAX_PIXELS // 4)),
    ):
        Image.new("RGB", size, "red").save(tmp_path / "grid.png")
        head, _, content = picture(tmp_path).partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.size == shown
