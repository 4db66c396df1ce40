"""What the commands' parsers share."""

from __future__ import annotations

import argparse

import pytest

from npmnv2.cli.arguments import TRANSFORMS, Parser, positive, positive_numbers
from npmnv2.images.processor import PRESETS


def test_transforms_are_the_presets():
    assert set(TRANSFORMS) == set(PRESETS)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one"])
def test_what_is_not_a_count(text):
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 1"):
        positive(text)


def test_numbers():
    assert positive("12") == 12
    assert positive_numbers("0.5,1") == (0.5, 1.0)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["--treads"], "(did you mean --threads?)"),
        (["--treads=4"], "(did you mean --threads?)"),
        (["--thread"], "(did you mean --threads?)"),  # abbreviations are not taken
        (["--zzz"], "--zzz\n"),
        (["extra"], "unrecognized arguments: extra\n"),
    ],
)
def test_unknown_arguments_get_the_nearest_option(capsys, typed, hint):
    parser = Parser(prog="p")
    parser.add_argument("--threads")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(typed)
    err = capsys.readouterr().err
    assert hint in err
    assert err.startswith("usage: p ")
    assert err.endswith("Try `p --help`.\n")
