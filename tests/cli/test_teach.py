"""``npmnv2 teach``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npmnv2
from npmnv2.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Bright and dark photos."""
    rng = np.random.default_rng(0)
    for label, low in (("bright", 160), ("dark", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(low, low + 96, (70, 90, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def test_from_folders_to_predictions(capsys, model, photos, tmp_path) -> None:
    pytest.importorskip("sklearn")
    out, page = tmp_path / "mine.h5", tmp_path / "report.html"
    command = ["teach", str(photos), "-o", str(out), "-m", model, "--test", str(photos), "--html", str(page)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.startswith("accuracy ")
    assert "on the test photos" in said.out
    assert f"wrote {out}" in said.err
    assert "A classifier of 2 classes" in page.read_text(encoding="utf-8")
    assert main(["predict", str(photos / "dark" / "0.png"), "-m", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"][0]["label"] == "dark"
    assert main(["verify", str(out)]) == 0
    assert main(["info", str(out)]) == 0
    assert "bright" in capsys.readouterr().out


def test_a_bad_photo_is_named_and_the_rest_is_taught(capsys, model, photos, tmp_path) -> None:
    pytest.importorskip("sklearn")
    (photos / "dark" / "broken.jpg").write_bytes(b"no photo")
    assert main(["teach", str(photos), "-o", str(tmp_path / "mine"), "-m", model, "--json"]) == 1
    said = capsys.readouterr()
    assert "broken.jpg" in said.err
    assert "1 of 11 photos could not be used" in said.err
    assert json.loads(said.out)["validation"]["photos"] == 10
    assert (tmp_path / "mine" / "model.safetensors").is_file()


def test_what_cannot_be_written_is_said_before_the_work(capsys, photos, tmp_path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "file").touch()
    for out, message in (
        (tmp_path / "none" / "mine.h5", "must be in a folder that exists"),
        (tmp_path / "mine.pb", "must end in .h5"),
        (tmp_path / "file", "must be a directory, got a file"),
        (photos, "must not be the folder of the photos"),
    ):
        assert main(["teach", str(photos), "-o", str(out), "-m", "nothing-is-loaded.h5"]) == 1
        assert message in capsys.readouterr().err


def test_impossible_arguments(capsys, photos, tmp_path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["teach", str(photos), "-o", "mine.h5", "--folds", "1"])
    assert "must be at least 2, got '1'" in capsys.readouterr().err


def test_a_folder_without_classes(capsys, folder, tmp_path) -> None:
    pytest.importorskip("sklearn")
    assert main(["teach", str(folder), "-o", str(tmp_path / "mine.h5")]) == 1
    assert "must hold a folder of photos for each class" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch, capsys, photos) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["teach", str(photos), "-o", "mine.h5"]) == 1
    assert "npmnv2 teach needs scikit-learn: pip install 'npmnv2[learn]'" in capsys.readouterr().err


def test_the_commands_name_exists_in_python() -> None:
    assert npmnv2.teach.__module__ == "npmnv2.learn.teaching"
