from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npmnv2 import ArgumentError
from npmnv2.scale.manifest import Output

SETTINGS = {"top_k": 5, "versions": {"numpy": "2.0"}}


def recorded(output: Output, names: list[str], size: int = 2) -> list[tuple[int, int]]:
    parts: list[tuple[int, int]] = []
    output.record(iter(names), size, lambda number, photos: parts.append((number, photos)))
    return parts


def test_a_run_of_the_same_settings_goes_on(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    digest = output.begin(SETTINGS, b"weights")
    assert Output(str(tmp_path / "out")).begin(dict(reversed(SETTINGS.items())), b"other bytes") == digest
    assert output.weights() == b"weights"
    assert output.settings(digest)["top_k"] == 5


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    output.begin(SETTINGS, b"")
    with pytest.raises(ArgumentError, match=r"top_k 5, not 3; versions.numpy '2.0', not '2.1'; repeat those"):
        output.begin({"top_k": 3, "versions": {"numpy": "2.1"}}, b"")


def test_only_where_nothing_else_differs_the_bits_are_named(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    output.begin({**SETTINGS, "fingerprint": "a"}, b"")
    with pytest.raises(ArgumentError, match="settings: this machine computes other bits"):
        output.begin({**SETTINGS, "fingerprint": "b"}, b"")
    with pytest.raises(ArgumentError, match="settings: top_k 5, not 3; repeat"):
        output.begin({**SETTINGS, "fingerprint": "b", "top_k": 3}, b"")


def test_a_table_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.begin(SETTINGS, b"")
    path = tmp_path / "_manifest" / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ArgumentError, match=r"a different version of npmnv2 \(format 2, not 1\); use that version, or"):
        output.begin({**SETTINGS, "top_k": 3}, b"")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ArgumentError, match=r"must be new.*thesis\.docx"):
        Output(str(tmp_path)).begin(SETTINGS, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_run_that_was_stopped_before_its_settings_were_there_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "_manifest").mkdir()
    (tmp_path / "_manifest" / "model.h5").touch()
    Output(str(tmp_path)).begin(SETTINGS, b"weights")


def test_settings_that_were_replaced_are_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    digest = output.begin(SETTINGS, b"")
    (tmp_path / "_manifest" / "run.json").write_text("{}")
    with pytest.raises(ArgumentError, match="replaced"):
        output.settings(digest)


def test_names_are_recorded_part_by_part(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert recorded(output, ["a", "b", "c"]) == [(0, 2), (1, 1)]
    assert (output.names(0), output.names(1)) == (["a", "b"], ["c"])
    assert output.listed() == {"photos": 3, "parts": 2}
    # They are not listed again, whatever there is now.
    assert recorded(output, ["x"]) == [(0, 2), (1, 1)]


def stopped(output: Output) -> None:
    def names() -> Any:
        yield from ("a", "b", "c", "d", "e")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        output.record(names(), 2, lambda *_: None)
    assert output.listed() is None


def test_a_listing_that_was_stopped_goes_on(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    stopped(output)
    assert recorded(output, ["a", "b", "c", "d", "e", "f", "g"]) == [(0, 2), (1, 2), (2, 2), (3, 1)]


@pytest.mark.parametrize(
    ("names", "changed"), [(["a", "b", "d", "e"], "c"), (["a", "aa", "b", "c", "d"], "aa"), (["a", "b"], "c")]
)
def test_other_names_than_before_are_refused(names: list[str], changed: str, tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    stopped(output)
    with pytest.raises(ArgumentError, match=f"other photos.*: {changed} was added or removed"):
        recorded(output, names)


def test_no_names_are_no_parts(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert recorded(output, []) == []
    assert output.listed() == {"photos": 0, "parts": 0}


def test_parts_that_are_there_are_done(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    assert output.done() == set()
    for number in (0, 7, 1_000_000):
        output.write_part(number, b"rows")
    (tmp_path / "out" / ".part-000001.parquet.npmnv2-01234567-1-01234567.parquet").touch()
    assert output.done() == {0, 7, 1_000_000}
    assert (tmp_path / "out" / "part-000007.parquet").read_bytes() == b"rows"


def test_the_end_is_a_file(tmp_path: Path) -> None:
    Output(str(tmp_path)).finish(10, 1)
    assert json.loads((tmp_path / "_SUCCESS").read_text()) == {"photos": 10, "failed": 1}
