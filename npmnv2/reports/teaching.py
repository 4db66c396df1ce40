"""What `teach` reports, as a page: accuracy, confusion matrix, classes, and the photos to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from npmnv2.reports.charts import matrix_chart
from npmnv2.reports.html import Markup, tag
from npmnv2.reports.page import Cell, Column, facts, figure, page, section, table, verdict, write_page
from npmnv2.results.pictures import thumbnail_of_file
from npmnv2.results.tables import percent
from npmnv2.results.teaching import (
    Evaluation,
    HardPhoto,
    LookAlike,
    TeachingReport,
    accuracy_text,
    hard_text,
    look_alike_text,
    mistaken_for,
)

_COLUMNS = (
    Column("class", "Name of the folder"),
    Column("photos", "That could be used"),
    Column("recognized", "Share of the class's photos whose likeliest class is right, among photos not seen"),
    Column("mistaken for", "The most frequent wrong class, and how often"),
)
_LOOK_ALIKES = 24


def teaching_page(report: TeachingReport) -> str:
    """The text of the page. Photos are shown where they are files that are still there."""
    return page(
        f"A classifier of {len(report.labels)} classes",
        verdict(f"accuracy {report.sentence()}"),
        _sections(report),
        f"Backbone: {report.backbone}. Every photo was predicted by a classifier that learned from other folds; near "
        "duplicates are in one fold.",
    )


def write_teaching(report: TeachingReport, path: str | Path) -> None:
    """Write `teaching_page`. Atomic."""
    write_page(teaching_page(report), path)


def _sections(report: TeachingReport) -> Iterator[Markup]:
    found = report.validation
    if report.test is not None:
        yield section("Test photos", tag("p", f"accuracy {accuracy_text(report.test)}"), _matrix(report.test))
    yield section("What is taken for what", _matrix(found))
    yield section("Classes", table(_COLUMNS, _rows(found), "Classes"))
    hard = [_card(photo) for photo in found.hardest()]
    yield section("Hardest photos", tag("div", hard, class_="cards"))
    if report.look_alikes:
        shown = [_pair(pair) for pair in report.look_alikes[:_LOOK_ALIKES]]
        note = f"{len(report.look_alikes)} pairs; one photo of each may be in the wrong folder."
        yield section("Near duplicates in different classes", tag("p", note), *shown)
    if remarks := [*report.notes, *report.skipped]:
        yield section("Notes", tag("ul", [tag("li", remark) for remark in remarks]))
    yield section(
        "Settings",
        facts(
            {
                "folds": report.folds,
                "inverse strength C": f"{report.inverse_strength:g}",
                "temperature": f"{report.temperature:.3f}",
                "scores are off by": percent(found.calibration_error),
            }
        ),
    )


def _matrix(found: Evaluation) -> Markup:
    return matrix_chart(found.confusion.tolist(), found.labels, "Photos by class (rows) and recognized class (columns)")


def _rows(found: Evaluation) -> Iterator[tuple[str, list[Cell]]]:
    totals = found.confusion.sum(axis=1)
    for number, (label, total, recall) in enumerate(zip(found.labels, totals.tolist(), found.recall.tolist())):
        cells = [Cell(label), Cell(total, total), Cell(percent(recall), recall), Cell(mistaken_for(found, number))]
        yield f"class-{number}", cells


def _card(photo: HardPhoto) -> Markup:
    text = hard_text(photo)
    return tag("article", tag("h3", Path(photo.name).name), _photo(photo.name), tag("p", text), class_="card")


def _pair(pair: LookAlike) -> Markup:
    photos = tag("div", _photo(pair.first), _photo(pair.second), class_="pair")
    return tag("article", photos, tag("p", look_alike_text(pair)), class_="card")


def _photo(name: str) -> Markup | None:
    picture = thumbnail_of_file(name)
    return figure(picture, name, Path(name).name) if picture else None
