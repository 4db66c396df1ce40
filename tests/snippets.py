"""The Python blocks of the documentation. Tests run them, and check their types, page by page.

A block that cannot run says why on its opening line: ````` ```python skip: needs a GPU `````. One that uses a different
library, whose types are not checked, is marked as well: ````` ```python foreign `````.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# What all pages take for granted, on one line: no page has code on its first, so the others keep their numbers.
GIVEN = (
    "import numpy as np; "
    'paths: list[str] = ["cat.jpg", "photo.jpg"]; '
    "photo = np.full((480, 640, 3), 127, np.uint8); "
    "my_stem = np.zeros((1, 112, 112, 32), np.float32); "
    "my_expansion = np.zeros((1, 112, 112, 96), np.float32)"
)

_BLOCK = re.compile(
    r"^```python *(?:skip: (?P<reason>.+)|(?P<foreign>foreign))?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Snippet(NamedTuple):
    """A block of code: number of its first line, text, why it is not run ("" if it is), and whether types count."""

    line: int
    code: str
    reason: str
    typed: bool


def pages() -> list[str]:
    """The pages of the repository that have Python blocks, as relative paths."""
    found = ["README.md", "kernels/README.md", ".github/CONTRIBUTING.md"]
    found += sorted(str(file.relative_to(ROOT).as_posix()) for file in (ROOT / "docs").glob("*.md"))
    return [page for page in found if (ROOT / page).is_file() and snippets(page)]


def snippets(page: str) -> list[Snippet]:
    """Every Python block of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Snippet(
            text.count("\n", 0, match.start("code")) + 1, match["code"], match["reason"] or "", not match["foreign"]
        )
        for match in _BLOCK.finditer(text)
    ]


def script(page: str) -> str:
    """All blocks of a page that run, as one script in which every line has the number that it has on the page."""
    lines = [GIVEN]
    for line, code, reason, _ in snippets(page):
        if not reason:
            lines += [""] * (line - len(lines) - 1) + code.splitlines()
    return "\n".join(lines) + "\n"
