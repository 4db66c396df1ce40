"""``npmnv2 info``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from npmnv2.cli.info import _text
from npmnv2.cli.main import main


def test_info_of_what_does_not_load_exits_with_1(tmp_path, capsys) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    for options in ([], ["--json"], ["--layers"]):
        assert main(["info", str(tmp_path / "m.h5"), *options]) == 1
        assert "not a readable HDF5 file" in capsys.readouterr().out


def test_info_and_layers(model, capsys) -> None:
    assert main(["info", model, "--layers"]) == 0
    out = capsys.readouterr().out
    assert "classification" in out
    assert "block_13" in out
    assert main(["info", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "classification"


def test_a_registered_name_is_a_file_of_the_cache(model, home, capsys):
    target = home / "tensorflow" / "mobilenet_v2_1.0_96.h5"
    target.parent.mkdir(parents=True)
    shutil.copy(model, target)
    assert main(["info", "1.0_96"]) == 0
    assert str(target) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "nothing"),
        (None, "unknown"),
        (True, "yes"),
        (3_504_872, "3,504,872"),
        ({}, "none"),
        ({"preset": "hf", "size": 64}, "preset=hf, size=64"),
        (["tench, Tinca tinca", "goldfish"], "tench, Tinca tinca | goldfish"),
        (list("abcdefghij"), "a | b | c | d | e | f | g | h | … (10)"),
    ],
)
def test_values_as_text(value, text):
    assert _text(value) == text


def test_an_ascii_locale_stops_nothing(model):
    command = [sys.executable, "-m", "npmnv2", "info", model, "--layers"]
    run = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, check=True)
    assert b"block_13" in run.stdout
    assert b"1\\u00d7" in run.stdout or b"\\u00d7" in run.stdout


def test_info_of_the_installation(capsys) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["backend"] in ("compiled", "numpy")
    assert main(["info"]) == 0
    assert f"npmnv2          {facts['npmnv2']}" in capsys.readouterr().out
    assert main(["info", "--layers"]) == 1
    assert "--layers needs a weight file" in capsys.readouterr().err
