"""``npmnv2 duplicates``: forms of output, exit codes, and the index."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from npmnv2.cli.main import main


@pytest.fixture
def duplicates(model, folder, tmp_path_factory, monkeypatch, capsys):
    """Run the command on the folder, in which b.JPG has a copy, and return its exit code, output and messages."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    (folder / "in").mkdir()
    shutil.copy(folder / "b.JPG", folder / "in" / "copy.jpg")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["duplicates", str(folder), "-m", model, "--threshold", "0.9999", *arguments])
        return code, *capsys.readouterr()

    return run


def test_a_table_of_groups(duplicates, folder):
    code, out, _ = duplicates()
    assert code == 0
    assert out == (
        f"{folder / 'b.JPG'}  90 × 70, keep\n"
        f"   1.000  {folder / 'in' / 'copy.jpg'}  90 × 70, same bytes as {folder / 'b.JPG'}\n"
    )


def test_json_and_csv(duplicates, folder):
    (line,) = duplicates("--json")[1].splitlines()
    assert json.loads(line)["others"][0]["same_bytes_as"] == str(folder / "b.JPG")
    header, *rows = duplicates("--csv")[1].splitlines()
    assert header == "keep,source,similarity,same_bytes_as,width,height,bytes"
    assert len(rows) == 2


def test_a_folder_without_duplicates_is_no_error(duplicates, folder):
    shutil.rmtree(folder / "in")
    assert duplicates()[:2] == (0, "")


def test_a_bad_photo_is_reported_and_the_others_are_grouped(duplicates, folder):
    (folder / "bad.jpg").write_bytes(b"no photo")
    code, out, messages = duplicates()
    assert code == 1
    assert "copy.jpg" in out
    assert f"{folder / 'bad.jpg'} is not an image" in messages
    assert "1 photos could not be used" in messages


def test_the_index_may_be_a_file_of_ones_own(duplicates, folder, tmp_path):
    index = tmp_path / "index.sqlite"
    assert duplicates("--index", str(index))[0] == 0
    size = index.stat().st_size
    Image.new("RGB", (80, 80), "teal").save(folder / "new.png")
    assert duplicates("--index", str(index))[0] == 0
    assert index.stat().st_size >= size
    index.write_bytes(b"something else")
    code, _, messages = duplicates("--index", str(index))
    assert code == 1
    assert f"{index} is not an index of photos" in messages
    assert index.read_bytes() == b"something else"


def test_an_empty_folder(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    assert main(["duplicates", str(tmp_path / "empty"), "-m", model]) == 1
    assert "holds no photos (.avif, .bmp, .gif" in capsys.readouterr().err


def test_a_threshold_of_zero_is_refused_before_anything_is_computed(tmp_path, capsys):
    assert main(["duplicates", str(tmp_path), "--threshold", "0", "-m", "absent.h5"]) == 1
    assert "threshold (=0.0) must be above 0" in capsys.readouterr().err
