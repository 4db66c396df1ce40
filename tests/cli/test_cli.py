"""The command line, as a person uses it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.cli.main import main
from npmnv2.weights.native import write_h5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog"})
    path = tmp_path_factory.mktemp("model") / "m.h5"
    write_h5(MobileNetV2ForImageClassification(config, seed=0).to_checkpoint(), path)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.JPG", "c.bmp"):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    return tmp_path


def test_table(model, folder, capsys) -> None:
    assert main(["predict", str(folder / "a.png"), "-m", model, "-k", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == str(folder / "a.png")
    assert len(out.splitlines()) == 2
    assert err == ""


@pytest.mark.parametrize("how", ["folder", "pattern", "files", "stdin"])
def test_many_photos(model, folder, capsys, monkeypatch, how) -> None:
    names = [str(folder / n) for n in ("a.png", "b.JPG", "c.bmp")]
    arguments = {"folder": [str(folder)], "pattern": [str(folder / "*.[pJb]*")], "files": names, "stdin": ["-"]}[how]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(names) + "\n\n"))
    assert main(["predict", *arguments, "-m", model, "--json", "--batch-size", "2"]) == 0
    assert [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()] == names


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


def test_nothing_to_do(model, tmp_path, capsys) -> None:
    assert main(["predict", str(tmp_path), "-m", model]) == 1
    assert main(["predict", str(tmp_path / "*.png"), "-m", model]) == 1
    err = capsys.readouterr().err
    assert "holds no photos" in err
    assert "matches no file" in err


def test_features_to_json_and_npz(model, folder, capsys) -> None:
    assert main(["features", str(folder / "a.png"), "-m", model]) == 0
    values = json.loads(capsys.readouterr().out)["features"]
    assert len(values) == 1280
    assert main(["features", str(folder), "-m", model, "--endpoint", "block_3", "-o", str(folder / "f.npz")]) == 0
    with np.load(folder / "f.npz") as file:
        assert file["block_3"].shape == (3, 8, 8, 16)
        assert [Path(name).name for name in file["source"]] == ["a.png", "b.JPG", "c.bmp"]


def test_a_failed_write_leaves_the_old_file(model, folder, capsys) -> None:
    target = folder / "absent" / "f.npz"
    assert main(["features", str(folder / "a.png"), "-m", model, "-o", str(target)]) == 1
    assert f"{target} must be in a folder that exists" in capsys.readouterr().err
    assert main(["features", str(folder / "a.png"), "-m", model, "-o", str(folder)]) == 1
    assert f"{folder} must be a file to write, got a folder" in capsys.readouterr().err


def test_an_unknown_endpoint_is_reported_once(model, folder, capsys) -> None:
    assert main(["features", str(folder), "-m", model, "--endpoint", "nonsense", "--batch-size", "1"]) == 1
    assert capsys.readouterr().err.count("nonsense") == 1


def test_info_of_what_does_not_load_exits_with_1(tmp_path, capsys) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    for options in ([], ["--json"], ["--layers"]):
        assert main(["info", str(tmp_path / "m.h5"), *options]) == 1
        assert "not a readable HDF5 file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "x.jpg", "-m", "absent.h5"], "absent.h5"),
        (["predict", "x.jpg", "-m", "mobilenet_v2_1.4_96"], "1.4"),
        (["info", "absent.h5"], "absent.h5"),
        (["convert", "absent.h5", "x.h5"], "absent.h5"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_1(arguments, message, capsys, home) -> None:
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("npmnv2: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["predict"], ["predict", "x.jpg", "--threads", "0"], ["predict", "x.jpg", "-k", "0"], ["nonsense"], []],
)
def test_misunderstood_commands_exit_with_2(arguments, capsys) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2


def test_info_and_layers(model, capsys) -> None:
    assert main(["info", model, "--layers"]) == 0
    out = capsys.readouterr().out
    assert "classification" in out
    assert "block_13" in out
    assert main(["info", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "classification"


def test_as_a_program(model, folder) -> None:
    command = [sys.executable, "-m", "npmnv2", "predict", str(folder), "-m", model, "--json"]
    reader = subprocess.run(f"{' '.join(command)} | head -1", shell=True, capture_output=True, text=True, check=True)
    assert json.loads(reader.stdout)["candidates"]
    assert "Traceback" not in reader.stderr
    assert "BrokenPipe" not in reader.stderr


def test_demo_takes_a_photo_of_ones_own(capsys, home, monkeypatch, model, folder) -> None:
    monkeypatch.setattr("npmnv2.cli.demo.fetch", lambda name: Path(model))
    assert main(["demo", str(folder / "a.png")]) == 0
    assert "a.png according to m.h5" in capsys.readouterr().out
    assert main(["demo"]) == 0
    assert "cat.jpg" in capsys.readouterr().out
    assert main(["demo", str(folder / "absent.png")]) == 1


def test_demo_without_the_internet_uses_the_package_index(capsys, monkeypatch, model) -> None:
    from npmnv2 import OfflineError

    def fetch(name: str) -> Path:
        if name.startswith("mobilenet"):
            raise OfflineError("no network")
        return Path(model)

    monkeypatch.setattr("npmnv2.cli.demo.fetch", fetch)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert "19 dog breeds and nothing else" in out
    assert "out of reach" in err


def test_convert_says_what_transformers_cannot_keep(model, tmp_path, capsys) -> None:
    pytest.importorskip("safetensors")
    assert main(["convert", model, str(tmp_path / "a"), "--to", "transformers"]) == 0
    assert "own way" not in capsys.readouterr().err
    from npmnv2.weights.native import read_h5

    checkpoint = read_h5(model)
    checkpoint.preprocessing = {"preset": "slim", "size": 64}
    write_h5(checkpoint, tmp_path / "slim.h5")
    assert main(["convert", str(tmp_path / "slim.h5"), str(tmp_path / "b"), "--to", "transformers"]) == 0
    assert "transformers cannot prepare photos as 'slim' does" in capsys.readouterr().err


def test_compare(model, folder, capsys, tmp_path) -> None:
    photo = str(folder / "a.png")
    assert main(["compare", model, photo, "--dtype", "float64", "--against", "numpy"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("Conv1")
    assert out.splitlines()[-1].startswith("predictions")
    other = MobileNetV2ForImageClassification.from_pretrained(model)
    other.weights["block_7_expand_BN/gamma"] = other.weights["block_7_expand_BN/gamma"] * 1.5
    write_h5(other.to_checkpoint(), tmp_path / "other.h5")
    assert main(["compare", model, str(tmp_path / "other.h5"), photo]) == 1
    assert "block_7_expand is the first layer that differs" in capsys.readouterr().err
