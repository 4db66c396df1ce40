"""Run the lessons of docs/lessons/ and write their pages: text, code, what the code prints, and what it draws.

    python tools/lessons.py [NAME …]

A lesson is a script in cells (``# %%`` for code, ``# %% [markdown]`` for text), which editors and Jupyter open as a
notebook. Its page lies beside it and is kept in the repository, so that GitHub shows it; a test runs every lesson and
compares. Figures of Matplotlib that a cell leaves open become pictures, described by the figure's label
(``plt.figure(num="…")``).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

LESSONS = Path(__file__).resolve().parents[1] / "docs" / "lessons"
PICTURES = LESSONS.parent / "images" / "lessons"
QUALITY = 80  # of a picture, so that it stays small

_CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n(?P<text>.*?)(?=^# %%|\Z)", re.MULTILINE | re.DOTALL)


class Cell(NamedTuple):
    """A piece of a lesson: its first line in the script, its text, and whether that is code."""

    line: int
    text: str
    is_code: bool


def cells(script: str) -> Iterator[Cell]:
    """The cells of a script; the lines of text without their comment sign."""
    for match in _CELL.finditer(script):
        text, is_code = match["text"].strip("\n"), not match["kind"]
        if not is_code:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        yield Cell(script.count("\n", 0, match.start("text")) + 1, text, is_code)


def render(script: Path, pictures: Path = PICTURES) -> str:
    """Run a lesson, write its pictures, and return its page."""
    import matplotlib

    matplotlib.use("agg")
    world: dict[str, Any] = {"__name__": script.stem}
    page = [f"<!-- Made by tools/lessons.py from {script.name}: change that one. -->"]
    count = 0
    for cell in cells(script.read_text(encoding="utf-8")):
        if not cell.is_code:
            page.append(cell.text)
            continue
        printed = _run(cell, script, world)
        page.append(f"```python\n{cell.text}\n```")
        if printed:
            page.append(f"```text\n{printed.rstrip()}\n```")
        for description, drawn in _figures():
            count += 1
            name = f"{script.stem}_{count}.webp"
            drawn.save(pictures / name, quality=QUALITY, method=6)
            page.append(f"![{description}](../images/lessons/{name})")
    return "\n\n".join(page) + "\n"


def _run(cell: Cell, script: Path, world: dict[str, Any]) -> str:
    """Run a cell as lines of its script, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (cell.line - 1) + cell.text, script, "exec"), world)
    return printed.getvalue()


def _figures() -> Iterator[tuple[str, Image.Image]]:
    """Description and picture of every open figure, which is closed."""
    from matplotlib import pyplot

    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        content = io.BytesIO()
        figure.savefig(content, dpi=100, bbox_inches="tight", facecolor="white")
        pyplot.close(figure)
        yield str(figure.get_label()), Image.open(content).convert("RGB")


def main() -> None:
    """Write the pages of all lessons, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or sorted(file.stem for file in LESSONS.glob("*.py"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names:
        (LESSONS / f"{name}.md").write_text(render(LESSONS / f"{name}.py"), encoding="utf-8")


if __name__ == "__main__":
    main()
