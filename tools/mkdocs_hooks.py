"""Hooks of MkDocs (mkdocs.yml): one set of pages for GitHub and for the site.

A page links to any file of the repository by its relative path, which is what GitHub follows. The site shows README.md
and the other pages of `PAGES` beside those of docs/. Every other file that a page links to (a source, a script) gets a
page of its own below ``source/``. So no link leaves the site, and none depends on where the repository is hosted.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Pages that lie outside docs/: file of the repository → page of the site.
PAGES = {
    "README.md": "index.md",
    "kernels/README.md": "kernels.md",
    "npmnv2/data/README.md": "data.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
FILES = {page: file for file, page in PAGES.items()}

_FENCED = re.compile(r"^(?P<fence>```+)(?P<words>[^\n]*)\n.*?^(?P=fence)$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)(?P<target>[^)#\s]+)(?=[)#])")
_LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".md": "markdown"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/, and a page for every other file that a page links to."""
    from mkdocs.structure.files import File

    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text(encoding="utf-8")))
    linked = {
        target for file in files.documentation_pages() for target in linked_sources(file.src_uri, file.content_string)
    }
    for target in sorted(linked):
        files.append(File.generated(config, source_page(target), content=listing(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give a page the links that are right on the site, and fences that its Markdown understands."""
    return for_the_site(page.file.src_uri, markdown)


def for_the_site(page: str, markdown: str) -> str:
    """The Markdown of `page`, a path on the site, as the site needs it. Code stays as it is."""
    return _outside_code(
        markdown,
        lambda text: _LINK.sub(lambda match: site_link(page, match["target"]), text),
        lambda match: match[0].replace(match["words"], match["words"].split(" ")[0], 1),
    )


def linked_sources(page: str, markdown: str) -> Iterator[str]:
    """Files of the repository that a page links to and that are no pages themselves."""
    found: list[str] = []
    _outside_code(markdown, lambda text: found.extend(_LINK.findall(text)) or text)
    for target in found:
        file = repository_file(page, target)
        if file not in PAGES and not _is_on_the_site(file):
            yield file


def site_link(page: str, target: str) -> str:
    """A link of `page`, relative in the repository, as a link that is relative on the site."""
    file = repository_file(page, target)
    found = PAGES.get(file) or (file.removeprefix("docs/") if _is_on_the_site(file) else source_page(file))
    return posixpath.relpath(found, posixpath.dirname(page) or ".")


def repository_file(page: str, target: str) -> str:
    """Path, from the root of the repository, of what a page of the site links to."""
    folder = posixpath.dirname(FILES.get(page, f"docs/{page}"))
    return posixpath.normpath(posixpath.join(folder, target))


def _is_on_the_site(file: str) -> bool:
    return file.startswith("docs/") and not file.endswith(".py")


def source_page(file: str) -> str:
    """Page of the site that shows a file of the repository."""
    return f"source/{file}.md"


def listing(file: str) -> str:
    """A page with the text of a file, or the names in a folder; a search does not find it, since it holds no prose."""
    path = ROOT / file
    names = sorted(each.name for each in path.glob("[!_.]*"))
    text = "\n".join(names) if path.is_dir() else path.read_text(encoding="utf-8")
    language = _LANGUAGES.get(posixpath.splitext(file)[1], "text")
    return f"---\nsearch:\n  exclude: true\n---\n# `{file}`\n\n````{language}\n{text.rstrip()}\n````\n"


def _outside_code(
    markdown: str, text: Callable[[str], str], code: Callable[[re.Match[str]], str] = lambda match: match[0]
) -> str:
    """Apply `text` to what lies between fenced blocks, and `code` to the blocks."""
    out, end = [], 0
    for match in _FENCED.finditer(markdown):
        out += [text(markdown[end : match.start()]), code(match)]
        end = match.end()
    return "".join([*out, text(markdown[end:])])
