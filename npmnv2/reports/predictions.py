"""Predictions as a page: every photo with its classes, its mask or its boxes, and a table of all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npmnv2.labels import BACKGROUND
from npmnv2.reports.charts import share_bar
from npmnv2.reports.html import Markup, tag
from npmnv2.reports.page import Cell, Column, figure, page, section, table, verdict, write_page
from npmnv2.results.pictures import thumbnail, thumbnail_of_file
from npmnv2.results.prediction import Prediction
from npmnv2.results.segmentation import Segmentation
from npmnv2.results.tables import percent

_COLUMNS = (
    Column("photo", "Name of the file"),
    Column("first", "The likeliest class, the largest class, or the surest object"),
    Column("share or score", "Its probability, or its share of the pixels"),
)


@dataclass
class PredictionsReport:
    """A page in the making, to which results are added one by one; only what the page shows is kept.

    Attributes
    ----------
    model : str
        What made the predictions.
    """

    model: str
    cards: list[Markup] = field(default_factory=list)
    rows: list[tuple[str, Sequence[Cell]]] = field(default_factory=list)

    def add(self, result: Any, photo: Any = None) -> None:
        """Add the result of one photo: anything that `predict` returns.

        Parameters
        ----------
        result
        photo : str or bytes, optional
            Path or content of the file, for a thumbnail where the result has no picture of its own.
        """
        name = result.source or "photo"
        number = len(self.cards)
        caption, lines, first = _described(result)
        picture = _picture(result, photo)
        shown = figure(picture, f"{caption} of {name}", caption) if picture else None
        # The name as it was given is in the table; a path would fill the card.
        self.cards.append(tag("article", tag("h3", Path(name).name), shown, lines, class_="card", id=f"card-{number}"))
        label, share = first
        link = tag("a", name, href=f"#card-{number}")
        self.rows.append((f"photo-{number}", (Cell(link), Cell(label), Cell(percent(share), share))))

    def page(self) -> str:
        """The text of the page."""
        count = f"{len(self.cards)} photo{'s' if len(self.cards) != 1 else ''}"
        return page(
            f"{count} seen by {self.model}", verdict(self._sentence()), self._sections(), f"Model: {self.model}"
        )

    def write(self, path: str | Path) -> None:
        """Write the page. Atomic."""
        write_page(self.page(), path)

    def _sentence(self) -> str:
        if not self.rows:
            return "no photo could be used"
        if len(self.rows) == 1:
            _, label, share = self.rows[0][1]
            return f"{label.shown}: {share.shown}"
        labels = [str(cells[1].shown) for _, cells in self.rows]
        common = max(dict.fromkeys(labels), key=labels.count)
        if len(set(labels)) == 1:
            return f"{common} comes first on all of them"
        if labels.count(common) == 1:
            return "a different class comes first on each of them"
        return f"{len(set(labels))} different classes come first, {common} most often ({labels.count(common)} times)"

    def _sections(self) -> Iterator[Markup]:
        yield section("Photos", tag("div", self.cards, class_="cards"))
        if len(self.rows) > 1:
            yield section("Table", table(_COLUMNS, self.rows, "First class of every photo"))


def _described(result: Any) -> tuple[str, Markup, tuple[str, float]]:
    """Caption of the picture, what is found, and what comes first."""
    if isinstance(result, Prediction):
        return "The photo", _bars(result, "score"), (result.top.label, result.top.score)
    if isinstance(result, Segmentation):
        shown = [region for region in result.legend if region.label != BACKGROUND] or result.legend
        colors = ["#" + bytes(map(int, result.display_colors[region.index])).hex() for region in shown]
        return "Classes over the photo", _bars(shown, "share", colors), (shown[0].label, shown[0].share)
    if not result:
        return "The photo", tag("p", "nothing found"), ("nothing", 0.0)
    return "Boxes on the photo", _bars(result, "score"), (result[0].label, result[0].score)


def _bars(found: Iterable[Any], share: str, colors: Sequence[str] | None = None) -> Markup:
    swatches: Iterable[str | None] = colors or itertools.repeat(None)
    return tag("div", [_bar(item.label, getattr(item, share), color) for item, color in zip(found, swatches)])


def _bar(label: str, share: float, color: str | None = None) -> Markup:
    swatch = color and tag("span", class_="swatch", style=f"background: {color}")
    return tag("div", tag("span", swatch, label), tag("span", percent(share)), share_bar(share), class_="bar")


def _picture(result: Any, photo: Any) -> str | None:
    if isinstance(result, Prediction):
        return thumbnail_of_file(photo if isinstance(photo, str) else result.source)
    return thumbnail(result.overlay(legend=False) if isinstance(result, Segmentation) else result.overlay())
