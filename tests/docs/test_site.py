"""The site builds without warnings; the configuration reference is generated from ``conf/``."""

import html.parser
import re
import subprocess
import sys
from pathlib import Path

import config_reference
import pytest

from dcond.cli.groups import group_options
from dcond.paths import conf_dir

ROOT = Path(__file__).parents[2]


def test_the_reference_has_every_group_file_and_setting():
    text = config_reference.reference()
    for group in (path for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"\n## {group.name}\n" in text
        for name in group_options(group.name):
            assert f"`{group.name}={name}`" in text or f"`{group.name}/{name}`" in text
    assert "| `ipc` | `1` | images stored per class |" in text
    assert "| `networks.ConvNet.width` | `64` |  |" in text
    assert "\n### `method=dm` {#method-dm}\n" in text


def test_the_reference_reads_values_comments_and_defaults(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "# @package _global_\n# What it is. Paper: P, arXiv 0000.00000\n"
        "defaults:\n  - dc\n  - override /init@_global_.init: noise  # why\n  - _self_\n\n"
        'a: 1  # one\nb:\n  c: [x, "#"]   # two | three\n  d:\n    e: null\nf: ${g}\n'
    )
    page = config_reference.read(file)
    assert page.settings == [
        ("a", "1", "one"),
        ("b", "", ""),
        ("b.c", '[x, "#"]', "two | three"),
        ("b.d", "", ""),
        ("b.d.e", "null", ""),
        ("f", "${g}", ""),
    ]
    assert page.defaults[:2] == [("", "dc", ""), ("override", "init@_global_.init: noise", "why")]
    file.write_text("a: 1\n? odd\n")
    with pytest.raises(ValueError, match=r"x\.yaml, line 2: '\? odd' has an unsupported form"):
        config_reference.read(file)


class Links(html.parser.HTMLParser):
    """Collect what a page loads and what it links to."""

    def __init__(self):
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        if tag == "a" and values.get("href"):
            self.linked.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_the_site_builds_loads_nothing_external_and_has_no_dead_links(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        assert [source for source in links.loaded if re.match(r"(https?:)?//", source)] == []
        own = (link.partition("#")[0] for link in links.linked if not re.match(r"[a-z]+:", link))
        lost = [
            link
            for link in own
            if link not in ("", ".", "..") and not (page.parent / link).exists()
        ]
        assert lost == [] or page.name == "404.html", page


@pytest.mark.slow
def test_the_reference_pages_hold_settings_and_docstrings(site):
    settings = (site / "configuration.html").read_text(encoding="utf-8")
    assert 'id="method-dm"' in settings
    python = (site / "api.html").read_text(encoding="utf-8")
    for name in (
        "dcond.artefact.load",
        "dcond.types.SyntheticSet",
        "dcond.methods.dm.DM",
        "dcond.models.base.Recipe",
    ):
        assert f'id="{name}"' in python
    assert ":class:" not in python
    assert ":func:" not in python
