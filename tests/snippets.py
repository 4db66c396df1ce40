"""The Python blocks of the documentation. Tests run them, and check their types, page by page.

A block that cannot run says why on its opening line: ````` ```python skip: needs a GPU `````. One that uses a different
library, whose types are not checked, is marked as well: ````` ```python foreign `````. A plain block right below one of
Python is what that prints; … there stands for anything.
"""

from __future__ import annotations

import contextlib
import io
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
    r"^```python *(?:skip: (?P<reason>.+)|(?P<foreign>foreign))?\n(?P<code>.*?)^```$"
    r"(?:\n+^```\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    """A block of code.

    Attributes
    ----------
    line : int
        Number of its first line on the page.
    code : str
    reason : str
        Why it is not run; "" if it is.
    typed : bool
        Whether its types are checked.
    output : str
        What the page says that it prints; "" if it says nothing.
    """

    line: int
    code: str
    reason: str
    typed: bool
    output: str


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
            text.count("\n", 0, block.start("code")) + 1,
            block["code"],
            block["reason"] or "",
            not block["foreign"],
            block["output"] or "",
        )
        for block in _BLOCK.finditer(text)
    ]


def run(page: str) -> None:
    """Run all blocks of a page in one world, and compare what they print with what the page says.

    Every line has the number that it has on the page.
    """
    world: dict[str, object] = {"__name__": page}
    exec(GIVEN, world)
    for snippet in snippets(page):
        if not snippet.reason:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (snippet.line - 1) + snippet.code, page, "exec"), world)
            assert is_output(snippet.output, printed.getvalue()), printed.getvalue()


def is_output(said: str, printed: str) -> bool:
    """Whether code prints what a page says, "" for nothing in particular."""
    pattern = re.escape(said.strip()).replace("…", ".*")
    return not said or re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
