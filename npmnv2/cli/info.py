"""``npmnv2 info``: what is in a weight file, and what is missing; without one, what runs here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from npmnv2.cli.arguments import add_command, add_model
from npmnv2.errors import ArgumentError

_EXAMPLES = ("info", "info model.tflite", "info mobilenet_v2_1.0_224 --layers")
_SHOWN_ITEMS = 8


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "info", info, _EXAMPLES)
    add_model(command, "file", nargs="?", metavar="MODEL", help="name, weight file or directory")
    command.add_argument("--layers", action="store_true", help="also list all layers")
    command.add_argument("--json", action="store_true", help="one JSON object with everything")


def info(options: argparse.Namespace) -> int:
    """Describe a weight file, or this installation."""
    if options.file is None:
        return _describe_installation(options)
    from npmnv2.hub.locate import locate
    from npmnv2.weights_tools import inspect

    path = locate(options.file)
    facts = inspect(path)
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        print("\n".join(f"{name:15} {_text(value)}" for name, value in facts.items()))
        if options.layers and facts["readable"]:
            print(_layers(path))
    return 0 if facts["readable"] else 1


def _describe_installation(options: argparse.Namespace) -> int:
    from npmnv2.lab.environment import environment

    if options.layers:
        raise ArgumentError("--layers needs a weight file")
    facts = environment()
    print(json.dumps(facts) if options.json else "\n".join(f"{name:15} {value}" for name, value in facts.items()))
    return 0


def _layers(path: Any) -> str:
    from npmnv2.loading import load

    return str(load(path, backend="numpy").summary())


def _text(value: Any) -> str:
    """One line for a value; the names of classes contain commas, so a bar separates items."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        more = f" | … ({len(value)})" if len(value) > _SHOWN_ITEMS else ""
        return (" | ".join(map(str, value[:_SHOWN_ITEMS])) or "nothing") + more
    return str(value)
