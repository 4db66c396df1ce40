"""The report of `teach` as a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from npmnv2.reports.teaching import teaching_page, write_teaching
from npmnv2.results.teaching import Evaluation, LookAlike, TeachingReport

HOSTILE = '</script><img src=x onerror="document.title=1">&amp;"\'<b>'


def report(photo: str, test: bool = True) -> TeachingReport:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    found = Evaluation((HOSTILE, "dog"), (photo, HOSTILE, "3", "4"), np.array([0, 0, 0, 1]), scores, 4)
    pair = LookAlike(photo, HOSTILE, "4", "dog", 0.97)
    return TeachingReport(HOSTILE, found, 2, 10.0, 1.5, found if test else None, (pair,), ("bad",), (HOSTILE,))


def test_the_page_shows_everything_and_nothing_runs(chromium, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "1.png")
    write_teaching(report(str(tmp_path / "1.png")), tmp_path / "report.html")
    chromium.look()
    chromium.open(tmp_path / "report.html")
    assert chromium.complaints() == []
    text = chromium.evaluate("document.body.innerText")
    assert "accuracy 75.0% (95 % interval 30.1% to 95.4%, 4 photos) on photos not seen" in text
    assert "taken for dog (80.0%)" in text
    assert "similarity 0.97" in text
    assert chromium.evaluate("document.title") == "A classifier of 2 classes"
    assert chromium.evaluate("document.querySelectorAll('svg g').length") == 6
    assert chromium.evaluate("document.querySelectorAll('figure img').length") == 2


def test_without_test_photos_and_files() -> None:
    text = teaching_page(report("gone.png", test=False))
    assert "Test photos" not in text
    assert "<figure" not in text
