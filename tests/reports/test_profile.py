"""Profiles as pages."""

from __future__ import annotations

from pathlib import Path

from npmnv2.reports.profile import profile_page, write_profile
from npmnv2.results.profile import Profile


def test_times_and_shares(chromium, tmp_path: Path, profile) -> None:
    write_profile(profile, "m<b>.h5", {"python": "3.11"}, tmp_path / "profile.html", peak=2e10)
    chromium.look()
    chromium.open(tmp_path / "profile.html")
    assert chromium.complaints() == []
    text = chromium.evaluate("document.body.innerText")
    assert "8.00 ms an image, 3.8 GFLOP/s, 18.8% of the peak" in text
    assert "takes most, 75.0%" in text
    rows = "[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    assert chromium.evaluate(rows)[0] == ["Conv1", "2.000", "25.0%", "10,000,000", "10.0", "50.0%", "75.0%"]
    chromium.click("th:nth-child(2) button")
    chromium.click("th:nth-child(2) button")
    assert chromium.evaluate(rows)[0][1] == "6.000"
    assert chromium.evaluate("document.title") == "Profile of m<b>.h5"


def test_without_a_peak_and_without_layers(profile) -> None:
    assert "of peak" not in profile_page(profile, "m", {})
    assert "nothing to time" in profile_page(Profile(), "m", {}, peak=1.0)


def test_a_layer_above_the_peak_is_the_peak(profile) -> None:
    text = profile_page(profile, "m", {}, peak=1e9)
    assert "100.0%" in text
    assert "1000.0%" not in text
