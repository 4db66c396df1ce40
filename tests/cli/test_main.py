"""The command line as a whole: mistakes, help, version, completion, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

import npmnv2
from npmnv2.cli.main import build_parser, main

COMMANDS = (
    *("predict", "features", "info", "convert", "verify", "list", "download", "cache", "compare", "demo"),
    *("warmup", "bench"),
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", __file__, "-m", "absent.h5"], "absent.h5"),
        (["predict", __file__, "-m", "mobilenet_v2_1.4_96"], "1.4"),
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


def test_as_a_program(model, folder) -> None:
    command = [sys.executable, "-m", "npmnv2", "predict", str(folder), "-m", model, "--json"]
    reader = subprocess.run(f"{' '.join(command)} | head -1", shell=True, capture_output=True, text=True, check=True)
    assert json.loads(reader.stdout)["candidates"]
    assert "Traceback" not in reader.stderr
    assert "BrokenPipe" not in reader.stderr


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([flag])
    assert capsys.readouterr().out == f"npmnv2 {npmnv2.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert f"usage: npmnv2 {command}" in out
    if command != "warmup":
        assert f"examples:\n  npmnv2 {command}" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_understood(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    for line in lines:
        words = shlex.split(line.partition(" > ")[0].partition(" < ")[0], comments=True)
        assert words[:2] == ["npmnv2", command]
        assert build_parser().parse_args(words[1:]).command == command


def test_a_bad_option_gets_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "x.jpg", "--treads", "2"])
    err = capsys.readouterr().err
    assert err.startswith("usage: npmnv2 predict ")
    assert "unrecognized arguments: --treads 2 (did you mean --threads?)" in err
    assert "Try `npmnv2 predict --help`" in err


def test_shells_can_complete(tmp_path):
    pytest.importorskip("argcomplete")
    line = "npmnv2 info dogs"
    variables = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    answer = tmp_path / "answer"
    environment = {**os.environ, **variables, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    subprocess.run([sys.executable, "-m", "npmnv2"], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert answer.read_text().strip() == "dogs19_mobilenet_v2_1.0_160"
