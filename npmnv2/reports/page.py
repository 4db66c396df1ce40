"""A page: a verdict, sections, and the style and script that all reports share, in one file without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from npmnv2.files import write_atomically
from npmnv2.reports.html import Child, Markup, join, tag


def page(title: str, verdict: Markup, sections: Iterable[Markup], footer: str) -> str:
    """The whole file.

    Scripts other than its own do not run in it, and nothing is fetched: its content security policy forbids both.
    """
    script = _asset("page.js")
    # The browser compares all that stands between the tags.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return Template(_asset("page.html")).substitute(
        title=join(title),
        verdict=verdict,
        content=join(sections),
        footer=join(footer),
        style=_asset("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def write_page(text: str, path: str | Path) -> None:
    """Write a page. Atomic.

    Raises
    ------
    OSError
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _asset(name: str) -> str:
    return (resources.files("npmnv2.reports") / name).read_text(encoding="utf-8")


# --- pieces -----------------------------------------------------------------------------------------------------------


def verdict(sentence: str, good: bool | None = None) -> Markup:
    """The sentence on top; what it says is told by a word, too, not by its color alone."""
    word = {True: "✓ agree", False: "✗ differ", None: None}[good]
    kind = {True: " good", False: " bad", None: ""}[good]
    return tag("p", word and tag("strong", word), sentence, class_=f"verdict{kind}", role="status")


def section(title: str, *children: Child | Iterable[Child]) -> Markup:
    """A part of the page with a title."""
    return tag("section", tag("h2", title), *children)


class Column(NamedTuple):
    """A column of a table: its head, and what the head means, as a tooltip."""

    head: str
    meaning: str


class Cell(NamedTuple):
    """A cell: what it shows, and the number by which it sorts (its text where there is none)."""

    shown: Child
    value: float | None = None


def table(columns: Sequence[Column], rows: Iterable[tuple[str, Sequence[Cell]]], label: str) -> Markup:
    """A table that a click on a head sorts; every row has an id, to which charts lead."""
    heads = [tag("th", tag("button", c.head, type="button", title=c.meaning), scope="col") for c in columns]
    body = [tag("tr", [_cell(cell) for cell in cells], id=name) for name, cells in rows]
    made = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), class_="sortable", aria_label=label)
    return tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=label)


def _cell(cell: Cell) -> Markup:
    return tag("td", cell.shown, data_value=None if cell.value is None else repr(float(cell.value)))


def facts(values: Mapping[str, Any]) -> Markup:
    """Names and values, such as those of the environment."""
    return tag("dl", [join(tag("dt", name), tag("dd", str(value))) for name, value in values.items()])


def figure(source: str, description: str, caption: Child, pixels: bool = False) -> Markup:
    """A picture with a caption; with `pixels` it is enlarged without smoothing."""
    image = tag("img", src=source, alt=description, class_="pixels" if pixels else None)
    return tag("figure", image, tag("figcaption", caption))


def row_id(name: str) -> str:
    """The id of a layer's row."""
    return f"layer-{name}"
