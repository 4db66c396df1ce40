"""``npmnv2 duplicates``: groups of near duplicates in a folder."""

from __future__ import annotations

import argparse
from typing import Any

from npmnv2.cli.arguments import add_command, share
from npmnv2.cli.collection import add_collection, exit_code, open_collection, printer

_EXAMPLES = (
    "duplicates photos/",
    "duplicates photos/ --threshold 0.97 --json",
    "duplicates photos/ --csv > groups.csv",
)
# That of `npmnv2.similarity.vectors`, which a test compares: reading it would import NumPy for every command.
_THRESHOLD = 0.85


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "duplicates", duplicates, _EXAMPLES)
    command.add_argument(
        "--threshold", type=share, default=_THRESHOLD, metavar="T", help=f"least cosine (default: {_THRESHOLD})"
    )
    add_collection(command)


def duplicates(options: argparse.Namespace) -> int:
    """Group the photos of a folder that are near duplicates, and say which to keep. Nothing is deleted."""
    from npmnv2.similarity.vectors import check_threshold

    check_threshold(options.threshold)
    collection, _ = open_collection(options)
    show = printer(options)
    for group in collection.duplicates(options.threshold):
        show(group)
    return exit_code(collection)
