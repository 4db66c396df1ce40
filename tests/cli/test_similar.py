"""``npmnv2 similar``: queries, forms of output, exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from npmnv2.cli.main import main


@pytest.fixture
def similar(model, folder, tmp_path, monkeypatch, capsys):
    """Run the command on the folder and return its exit code, output and messages."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["similar", *arguments, "-m", model])
        return code, *capsys.readouterr()

    return run


def test_a_table_of_neighbors_without_the_query(similar, folder):
    code, out, _ = similar(str(folder / "a.png"), str(folder))
    query, *lines = out.splitlines()
    assert code == 0
    assert query == str(folder / "a.png")
    assert sorted(Path(line.split()[1]).name for line in lines) == ["b.JPG", "c.bmp"]


def test_json_and_csv_of_several_queries(similar, folder):
    queries = [str(folder / name) for name in ("a.png", "c.bmp")]
    code, out, _ = similar(*queries, str(folder), "--json", "--top", "1")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["source"] for line in lines] == queries
    assert [len(line["similar"]) for line in lines] == [1, 1]
    _, out, _ = similar(*queries, str(folder), "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["query"] for row in rows] == [queries[0]] * 2 + [queries[1]] * 2
    assert [row["rank"] for row in rows] == ["1", "2"] * 2


def test_a_threshold_that_nothing_reaches_is_no_error(similar, folder):
    code, out, _ = similar(str(folder / "a.png"), str(folder), "--threshold", "1")
    assert (code, out) == (0, f"{folder / 'a.png'}\n")


def test_an_image_on_standard_input(similar, folder, monkeypatch):
    content = (folder / "a.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = similar("-", str(folder), "--json", "--top", "1")
    assert code == 0
    (found,) = json.loads(out)["similar"]
    assert found == {"source": str(folder / "a.png"), "similarity": pytest.approx(1)}


def test_a_bad_query_spares_the_others(similar, folder):
    code, out, messages = similar(str(folder / "notes.txt"), str(folder / "a.png"), str(folder))
    assert code == 1
    assert out.startswith(str(folder / "a.png"))
    assert "notes.txt is not an image" in messages
    assert "1 photos could not be used" in messages


def test_a_folder_that_is_not_there(similar, folder):
    code, _, messages = similar(str(folder / "a.png"), str(folder / "absent"))
    assert code == 1
    assert f"{folder / 'absent'} must be an existing folder" in messages


@pytest.mark.parametrize("value", ["1.5", "nan", "x"])
def test_impossible_thresholds_are_not_understood(value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["similar", "a.png", "folder", "--threshold", value])
    assert "must be a number from -1 to 1" in capsys.readouterr().err
