"""``npmnv2 features``: JSON lines and files of arrays."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

from npmnv2 import load
from npmnv2.cli.main import main


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
    (folder / "f.npz").mkdir()
    assert main(["features", str(folder / "a.png"), "-m", model, "-o", str(folder / "f.npz")]) == 1
    assert f"{folder / 'f.npz'} must be a file to write, got a folder" in capsys.readouterr().err


def test_an_unknown_endpoint_is_reported_once(model, folder, capsys) -> None:
    assert main(["features", str(folder), "-m", model, "--endpoint", "nonsense", "--batch-size", "1"]) == 1
    assert capsys.readouterr().err.count("nonsense") == 1


def reference(model, folder):
    return np.stack(load(model).features([str(folder / name) for name in ("a.png", "b.JPG", "c.bmp")]))


def test_npy_is_one_array(model, folder):
    assert main(["features", str(folder), "-m", model, "-o", str(folder / "f.npy")]) == 0
    npt.assert_array_equal(np.load(folder / "f.npy", allow_pickle=False), reference(model, folder))


def test_csv_has_a_line_for_each_photo(model, folder):
    assert main(["features", str(folder), "-m", model, "-o", str(folder / "f.csv")]) == 0
    with (folder / "f.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["source", *map(str, range(1280))]
    assert [Path(row[0]).name for row in rows] == ["a.png", "b.JPG", "c.bmp"]
    npt.assert_array_equal(np.array([row[1:] for row in rows], np.float32), reference(model, folder))


def test_parquet_has_a_row_for_each_photo(model, folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main(["features", str(folder), "-m", model, "-o", str(folder / "f.parquet")]) == 0
    table = parquet.read_table(folder / "f.parquet").to_pydict()
    assert [Path(name).name for name in table["source"]] == ["a.png", "b.JPG", "c.bmp"]
    npt.assert_array_equal(np.array(table["features"], np.float32), reference(model, folder))


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("f", [], "must end in .npz, .npy, .csv, .parquet"),
        ("f.txt", [], "must end in .npz, .npy, .csv, .parquet"),
        ("f.npy", ["--endpoint", "block_1", "--endpoint", "block_2"], "a .npy file holds one array"),
        ("f.csv", ["--endpoint", "block_1"], "a .csv file holds vectors"),
        ("f.parquet", ["--endpoint", "block_1"], "a .parquet file holds vectors"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_at_the_door(tmp_path, capsys, out, options, message):
    # The model does not exist: nothing is loaded before the file is known to be possible.
    assert main(["features", "x.png", "-m", "absent.h5", "-o", str(tmp_path / out), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def test_parquet_without_pyarrow_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert main(["features", "x.png", "-m", "absent.h5", "-o", str(tmp_path / "f.parquet")]) == 1
    assert "pip install 'npmnv2[parquet]'" in capsys.readouterr().err
