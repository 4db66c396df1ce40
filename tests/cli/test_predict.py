"""``npmnv2 predict`` with a classifier."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest

from npmnv2 import load
from npmnv2.cli.main import main


def test_table(model, folder, capsys) -> None:
    assert main(["predict", str(folder / "a.png"), "-m", model, "-k", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == str(folder / "a.png")
    assert len(out.splitlines()) == 2
    assert err == ""


def test_csv_has_one_header(model, folder, capsys) -> None:
    assert main(["predict", str(folder), "-m", model, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 6
    assert {row["label"] for row in rows} == {"cat", "dog"}


def test_one_bad_photo_spares_the_others(model, folder, capsys) -> None:
    (folder / "b.JPG").write_bytes(b"not a photo")
    assert main(["predict", str(folder), str(folder / "absent.png"), "-m", model, "--json"]) == 1
    out, err = capsys.readouterr()
    assert [Path(json.loads(line)["source"]).name for line in out.splitlines()] == ["a.png", "c.bmp"]
    assert "b.JPG" in err
    assert "absent.png" in err
    assert "2 of 4 photos could not be used" in err


def test_photos_are_prepared_as_asked(model, folder, capsys):
    assert main(["predict", str(folder / "a.png"), "-m", model, "--transform", "slim", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    reference = load(model).predict(str(folder / "a.png"), transform="slim")
    assert found == json.loads(reference.to_json())
    assert reference.top.score != load(model).predict(str(folder / "a.png")).top.score


def test_bytes_on_standard_input_are_a_photo(model, folder, capsys, monkeypatch):
    with (folder / "b.JPG").open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        assert main(["predict", "-", "-m", model, "--json"]) == 0
    piped = json.loads(capsys.readouterr().out)
    assert main(["predict", str(folder / "b.JPG"), "-m", model, "--json"]) == 0
    named = json.loads(capsys.readouterr().out)
    assert piped.pop("source") == "-"
    assert named.pop("source") == str(folder / "b.JPG")
    assert piped == named


def test_bytes_that_are_a_damaged_photo(model, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff\xe0 damaged")))
    assert main(["predict", "-", "-m", model]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("npmnv2: -: ")
    assert "\xff" not in err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are valid Unicode there")
@pytest.mark.parametrize("form", ["--json", "--csv", "-q"])
def test_names_that_are_not_utf_8(model, folder, capfdbinary, form):
    name = os.fsdecode(bytes(folder) + b"/\xff\xe9.png")
    (folder / "a.png").rename(name)
    assert main(["predict", name, "-m", model, form]) == 0
    out = capfdbinary.readouterr().out.decode("utf-8")
    assert "\\udcff\\udce9.png" in out
    if form == "--json":
        assert json.loads(out)["source"] == name


@pytest.mark.parametrize("threads", ["1000", "257"])
def test_impossible_threads_are_not_blamed_on_the_photos(model, folder, capsys, threads):
    assert main(["predict", str(folder), "-m", model, "--threads", threads]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "threads" in err
    assert "photo" not in err


def test_a_page_with_all_photos(model, folder, capsys):
    page = folder / "seen.html"
    assert main(["predict", str(folder), "--model", model, "--html", str(page)]) == 0
    assert f"wrote {page}" in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert "3 photos seen by m.h5" in text
    assert text.count("data:image/jpeg") == 3
    assert main(["predict", str(folder), "--model", model, "--html", str(folder / "no" / "seen.html")]) == 1
    assert "must be in a folder that exists" in capsys.readouterr().err


def test_precision(model, folder, capsys, monkeypatch) -> None:
    photo = str(folder / "a.png")
    arguments = ["predict", photo, "-m", model, "--json", "--precision", "bf16"]
    assert main([*arguments, "--backend", "numpy"]) == 0
    found = json.loads(capsys.readouterr().out)["candidates"]
    expected = load(model, backend="numpy", precision="bf16").predict(photo).to_dict()["candidates"]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected])
    single = load(model).predict(photo).to_dict()["candidates"]
    assert {row["score"] for row in found} != {row["score"] for row in single}
    monkeypatch.setattr("npmnv2.backends.selection.find_bfloat16_engine", lambda _: None)
    assert main(arguments) == 1
    assert "needs an x86 processor with AVX-512 BF16" in capsys.readouterr().err
