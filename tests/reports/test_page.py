"""What all pages share: one file, no network, a table that sorts by mouse and by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npmnv2.reports.html import tag
from npmnv2.reports.page import Cell, Column, facts, figure, page, section, table, verdict, write_page

ROWS = [("b", 3.0), ("a", 20.0), ("c", 1e-3), ("é", -1.0)]


def sample() -> str:
    columns = (Column("name", "The name"), Column("size", "The size"))
    rows = [(f"row-{name}", (Cell(name), Cell(f"{size:g}", size))) for name, size in ROWS]
    return page("A <title>", verdict("all is well", True), [section("Rows", table(columns, rows, "Rows"))], "the end")


def names(chromium) -> list[str]:
    return chromium.evaluate("[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent)")


def test_a_click_on_a_head_sorts_the_table(chromium, tmp_path: Path) -> None:
    write_page(sample(), tmp_path / "page.html")
    chromium.look()
    chromium.open(tmp_path / "page.html")
    assert names(chromium) == ["b", "a", "c", "é"]
    chromium.click("th:nth-child(2) button")
    assert names(chromium) == ["é", "c", "b", "a"]
    assert chromium.evaluate("document.querySelector('th:nth-child(2)').ariaSort") == "ascending"
    chromium.click("th:nth-child(2) button")
    assert names(chromium) == ["a", "b", "c", "é"]
    assert chromium.evaluate("document.querySelector('th:nth-child(2)').ariaSort") == "descending"
    chromium.click("th:nth-child(1) button")
    assert names(chromium) == ["a", "b", "c", "é"]
    assert chromium.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert chromium.fetched() == []
    assert chromium.complaints() == []


def test_the_keyboard_does_the_same(chromium, tmp_path: Path) -> None:
    write_page(sample(), tmp_path / "page.html")
    chromium.open(tmp_path / "page.html")
    chromium.press("Tab")
    assert chromium.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):
        chromium.press("Tab")
    assert chromium.evaluate("document.activeElement.textContent") == "size"
    chromium.press("Enter", text="\r")
    assert names(chromium) == ["é", "c", "b", "a"]


@pytest.mark.parametrize("dark", [False, True])
def test_colors_follow_the_system_and_are_told_apart(chromium, tmp_path: Path, dark) -> None:
    write_page(sample(), tmp_path / "page.html")
    chromium.look(dark=dark)
    chromium.open(tmp_path / "page.html")

    def luminance(selector: str, property: str) -> float:
        style = chromium.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{property}")
        channels = [int(number) / 255 for number in re.findall(r"\d+", style)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground = luminance("body", "backgroundColor")
    assert (ground < 0.1) == dark
    raised = luminance(".verdict", "backgroundColor")
    for selector, behind in (("body", ground), ("footer", ground), (".kicker", ground), (".verdict strong", raised)):
        color = luminance(selector, "color")
        # WCAG 2, level AA.
        assert (max(color, behind) + 0.05) / (min(color, behind) + 0.05) >= 4.5, selector


def test_scripts_of_others_do_not_run_and_nothing_is_fetched(chromium, tmp_path: Path) -> None:
    smuggled = sample().replace("<main", "<script>document.title='taken'</script><img src='http://127.0.0.1:9/x'><main")
    (tmp_path / "page.html").write_text(smuggled, encoding="utf-8")
    chromium.open(tmp_path / "page.html")
    assert chromium.evaluate("document.title") == "A <title>"
    assert chromium.complaints()


def test_text_is_escaped_and_there_is_one_script() -> None:
    text = sample()
    assert "<title>A &lt;title&gt;</title>" in text
    assert text.count("<script") == 1
    assert "http" not in text.replace("http-equiv", "")
    assert "$" not in text.replace("${", "")


def test_pieces() -> None:
    assert verdict("so", None) == '<p class="verdict" role="status">so</p>'
    assert "✗ differ" in verdict("so", False)
    assert facts({"a<": "b&"}) == "<dl><dt>a&lt;</dt><dd>b&amp;</dd></dl>"
    assert 'class="pixels"' in figure("data:x", "what", tag("b", "x"), pixels=True)
