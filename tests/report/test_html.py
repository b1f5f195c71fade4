"""The HTML page: its content, no external resources, and escaped texts."""

import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from dcond.report.collect import collect
from dcond.report.figures import draw, read_curves
from dcond.report.grouping import build_report
from dcond.report.html import page

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Elements(HTMLParser):
    """Collects every start tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def written(tmp_path):
    """Return a function that makes the page of all results written so far."""

    def write():
        report = build_report(collect([tmp_path]))
        return page(report, draw(report, read_curves(report.runs)))

    return write


@pytest.fixture
def study(write_result):
    """Write two methods at two ipc with everything that a page can show, and a run that failed."""
    names = [f"Network-{index}" for index in range(8)]
    for method in ("dm", "a_method_with_a_long_name_" * 3):
        for ipc in (1, 10):
            for seed in (0, 1, 2):
                means = {name: 0.5 + seed / 50 + (method == "dm") / 5 for name in names}
                cost = {"condense_wall_s": 30.0, "step_s_median": 0.1, "peak_memory_bytes": 1e9}
                folder = write_result(
                    f"{method[:2]}{ipc}{seed}", means, method=method, ipc=ipc, seed=seed, cost=cost
                )
                Image.new("RGB", (64, 64), (9 * ipc, 80, 120)).save(folder / "grid.png")
                (folder / "metrics.jsonl").write_text(
                    json.dumps({"step": 1, "condense/loss": 1.0}) + "\n"
                )
    write_result("broken", status="failed", error=f"no <b>good</b> {'x' * 300}", seed=3, pool=names)


@pytest.fixture(scope="module")
def kept():
    """What several tests look at, made once."""
    return {}


@pytest.fixture
def text(study, written, kept):
    """The page of the study."""
    if "page" not in kept:
        kept["page"] = written()
    return kept["page"]


def test_tables_figures_pictures_and_notes(text):
    tags = [tag for tag, _ in Elements(text).found]
    assert tags.count("table") == 3  # two ipc and the cost
    assert tags.count("svg") == 4
    assert tags.count("img") == 4  # of each method at each ipc, the first seed's
    assert "<h3>1 image per class</h3>" in text
    assert "<h3>10 images per class</h3>" in text
    assert "<td><b>72.0 ± 5.0</b></td>" in text
    assert '<small class="warn">1 failed</small>' in text
    assert "13 runs: 12 done, 1 failed." in text
    assert re.search(
        r'<li class="warn">failed: \S+/broken: no &lt;b&gt;good&lt;/b&gt; x+</li>', text
    )


def test_nothing_is_loaded_and_nothing_runs(text):
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in text
    assert not [url for url in re.findall(r"url\(([^)]*)\)", text) if not url.startswith("#")]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text


def test_ids_in_figures_are_unique_and_references_resolve(text):
    found = Elements(text).found
    names = Counter(attributes["id"] for _, attributes in found if "id" in attributes)
    assert [name for name, times in names.items() if times > 1] == []
    links = {
        value[1:]
        for _, each in found
        for key, value in each.items()
        if key.endswith("href") and value[0] == "#"
    }
    assert links <= names.keys()


def test_texts_of_results_are_escaped(write_result, written):
    for ipc in (1, 10):
        for method in (EVIL, "dm"):
            folder = write_result(
                f"{method[:2].strip('<')}{ipc}",
                {EVIL: 0.5, "B": 0.5},
                method=method,
                dataset=EVIL,
                ipc=ipc,
                settings={"method.name": EVIL},
                cost={"condense_wall_s": 1.0},
            )
            (folder / "metrics.jsonl").write_text('{"step": 1, "condense/loss": 1.0}\n')
            Image.new("L", (8, 8)).save(folder / "grid.png")
    write_result("failed", status="failed", error=EVIL, method=EVIL, dataset=EVIL)
    text = written()
    found = Elements(text).found
    assert not [tag for tag, attributes in found if tag == "script" or "onerror" in attributes]
    assert all(
        attributes["src"].startswith("data:image/png;base64,")
        for tag, attributes in found
        if tag == "img"
    )
    assert text.count(html.escape(EVIL)) > 10


def test_a_page_without_figures(write_result, tmp_path):
    write_result("a", {"A": 0.5})
    text = page(build_report(collect([tmp_path])))
    assert "<svg" not in text
    assert "<td>50.0</td>" in text


PROBE = """<script>addEventListener("load", () => { const root = document.documentElement; root.dataset.probe = [
  [...document.images].filter(image => image.complete && image.naturalWidth > 0).length, document.images.length,
  document.querySelectorAll("tbody tr").length, root.scrollWidth, root.clientWidth,
  [...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 100).length].join() })
</script>"""


def browse(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser to open the page with: {', '.join(BROWSERS)} are not on the PATH")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={file.parent / 'profile'}",
        *arguments,
    )
    return subprocess.run(
        [browser, *flags, file.as_uri()], capture_output=True, text=True, check=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_the_page_without_errors(width, study, written, tmp_path):
    file = tmp_path / "index.html"
    text = written()
    file.write_text(text, encoding="utf-8")
    told = browse(
        file, f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom"
    ).stderr
    assert not [line for line in told.splitlines() if "CONSOLE" in line]
    # The page itself lets no script run, so its copy is asked: without the policy, with a script of
    # ours.
    file.write_text(
        re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', PROBE, text), encoding="utf-8"
    )
    dom = browse(file, f"--window-size={width},900", "--dump-dom").stdout
    loaded, images, rows, needed, there, figures = map(
        int, re.search(r'data-probe="([\d,]+)"', dom)[1].split(",")
    )
    assert (loaded, images) == (4, 4)
    assert rows == 2 + 2 + 4
    assert figures == 4
    assert needed <= there  # nothing to scroll sideways
    assert there <= width


@pytest.mark.slow
def test_the_browser_reports_script_errors(tmp_path):
    file = tmp_path / "index.html"
    file.write_text(
        "<!DOCTYPE html><title>x</title><script>console.error('seen'); nothing()</script>"
    )
    told = browse(file, "--enable-logging=stderr", "--dump-dom").stderr
    assert len([line for line in told.splitlines() if "CONSOLE" in line]) == 2
