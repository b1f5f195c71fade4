"""MkDocs hooks (`mkdocs.yml`): add pages from outside `docs/` and rewrite the links to them.

Links are written for readers of the repository. The site gets copies of what is outside `docs/`:
the pages of the root folder and the files that pages link to. A link to `conf/GROUP/NAME.yaml`
leads to its section of the configuration reference.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import config_reference
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # of the root folder, also on the site
REFERENCE = "configuration.md"
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?(?=\))")
ROLE = re.compile(r":(?:class|func|meth|attr|mod|data):<code>~?(?P<name>[\w.]+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add the configuration reference, the root's pages, and linked files outside docs/."""
    files.append(File.generated(config, REFERENCE, content=config_reference.reference()))
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in [
        file for file in files if file.is_documentation_page() and file.src_uri != REFERENCE
    ]:
        for link in LINK.finditer(page.content_string):
            outside = _in_repository(page.src_uri, link["target"])
            place = _on_site(outside)
            if (
                place.startswith("files/")
                and (ROOT / outside).is_file()
                and place not in files.src_uris
            ):
                files.append(File.generated(config, place, abs_src_path=str(ROOT / outside)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite links of the repository as links of the site."""
    source = page.file.src_uri
    if source == REFERENCE:
        return markdown

    def moved(link: re.Match[str]) -> str:
        outside = _in_repository(source, link["target"])
        place, anchor = _on_site(outside), link["anchor"] or _section(outside)
        return posixpath.relpath(place, posixpath.dirname(source) or ".") + anchor

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Show the Sphinx roles of docstrings as plain names."""
    return ROLE.sub(lambda role: f"<code>{role['name'].rpartition('.')[2]}</code>", html)


def _in_repository(source: str, target: str) -> str:
    """Return the target of a link, relative to the repository's root."""
    folder = "" if source in PAGES else posixpath.join("docs", posixpath.dirname(source))
    return posixpath.normpath(posixpath.join(folder, target))


def _on_site(path: str) -> str:
    """Return the place of a repository file on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in PAGES:
        return path
    return REFERENCE if path == "conf" or path.startswith("conf/") else f"files/{path}"


def _section(path: str) -> str:
    """Return the anchor of a file of conf/ in the reference; empty for other files."""
    parts = Path(path).with_suffix("").parts
    return (
        f"#{config_reference.anchor(parts[1], '-'.join(parts[2:]))}"
        if parts[0] == "conf" and len(parts) > 2
        else ""
    )
