"""Comparisons as pages, seen by a browser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from npmnv2.lab.comparison import Comparison, compare_traces
from npmnv2.reports.comparison import comparison_page, write_comparison


def test_everything_is_on_the_page(chromium, tmp_path: Path, comparison) -> None:
    write_comparison(comparison, tmp_path / "report.html")
    chromium.look()
    chromium.open(tmp_path / "report.html")
    assert chromium.complaints() == []
    assert chromium.fetched() == []
    text = chromium.evaluate("document.body.innerText")
    assert comparison.verdict in text
    assert "✗ differ" in text
    for words in ("First layer that diverges: block_2", "shifted </script>", "Not compared: </script>", "3.11"):
        assert words in text
    # Images of the page are its own: what a hostile name holds is text.
    assert chromium.evaluate("[...document.images].every(i => i.src.startsWith('data:') && i.naturalWidth > 0)")
    assert chromium.evaluate("document.images.length") == 2
    assert chromium.evaluate("document.querySelectorAll('tbody tr').length") == 5
    assert chromium.evaluate("document.title").startswith("a.h5 compared with ")


def test_the_table_sorts_by_error_and_back_by_depth(chromium, tmp_path: Path, comparison) -> None:
    write_comparison(comparison, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    first = "document.querySelector('tbody tr').cells[0].textContent"
    assert chromium.evaluate(first) == "✓ Conv1"
    chromium.click("th:nth-child(5) button")
    chromium.click("th:nth-child(5) button")
    assert chromium.evaluate(first) == "✗ block_2"
    chromium.click("th:nth-child(1) button")
    assert chromium.evaluate(first) == "✓ Conv1"


def test_a_point_leads_to_its_row(chromium, tmp_path: Path, comparison) -> None:
    write_comparison(comparison, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    chromium.click("svg a[href='#layer-block_2'] rect")
    assert chromium.evaluate("location.hash") == "#layer-block_2"
    assert chromium.evaluate("document.querySelector('tr:target').cells[0].textContent") == "✗ block_2"


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_page_is_wider_than_its_window(chromium, tmp_path: Path, comparison, width) -> None:
    write_comparison(comparison, tmp_path / "report.html")
    chromium.look(width)
    chromium.open(tmp_path / "report.html")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    name = chromium.evaluate("document.querySelector('tbody td').getBoundingClientRect().width")
    assert 120 <= name <= 0.5 * width, "names can be read, and leave room for numbers"


def test_equal_runs_and_empty_ones() -> None:
    values = {"a": np.ones((1, 3, 3, 2)), "b": np.zeros((1, 2))}
    equal = comparison_page(Comparison("a", "b", compare_traces(values, values)))
    assert "✓ agree" in equal
    assert "all layers are equal, bit for bit" in equal
    assert "no layer in common" in comparison_page(Comparison("a", "b", ()))


def test_numbers_that_are_none_and_steps(comparison) -> None:
    layer = comparison.layers[0]
    broken = dataclasses.replace(layer, name="nan", largest=np.nan, relative=np.nan, mean=np.nan, snr=-np.inf)
    stepped = dataclasses.replace(layer, name="stepped", steps=2.0)
    error_map = np.full((3, 3), np.nan)
    lost = dataclasses.replace(broken, name="lost", error_map=error_map)
    text = comparison_page(dataclasses.replace(comparison, layers=(layer, broken, stepped, lost)))
    assert 'data-value="nan"' not in text
    assert 'data-value="inf"' not in text
    assert "steps" in text
