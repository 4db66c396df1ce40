"""``npmnv2 profile``."""

from __future__ import annotations

import json

from npmnv2.cli.main import main


def test_table_json_and_page(model, folder, capsys) -> None:
    photo, page = str(folder / "a.png"), folder / "profile.html"
    assert main(["profile", photo, "--model", model, "--runs", "2"]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert main(["profile", "--model", model, "--runs", "1", "--json", "--html", str(page)]) == 0
    captured = capsys.readouterr()
    timings = json.loads(captured.out)
    assert {"name", "seconds", "multiply_adds", "busy"} == set(timings[0])
    assert sum(timing["multiply_adds"] for timing in timings) > 1e6
    assert f"wrote {page}" in captured.err
    text = page.read_text(encoding="utf-8")
    assert "Profile of m.h5" in text
    assert "Share of the peak" in text
    assert str(folder.parent) not in text


def test_a_photo_that_is_not_there(model, capsys) -> None:
    assert main(["profile", "no.jpg", "--model", model]) == 1
    assert "no.jpg" in capsys.readouterr().err
