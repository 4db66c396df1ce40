"""``npmnv2 verify``: whether weight files are what was written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import add_command, add_model
from npmnv2.cli.console import log_stderr
from npmnv2.errors import Npmnv2Error

_EXAMPLES = ("verify model.h5", "verify mobilenet_v2_1.0_224")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "verify", verify, _EXAMPLES)
    add_model(command, "files", metavar="MODEL", nargs="+", help="name, weight file or directory")


def verify(options: argparse.Namespace) -> int:
    """Read weights whole and compare them with the digest inside."""
    sound = [_is_sound(file) for file in options.files]
    return 0 if all(sound) else 1


def _is_sound(name_or_path: str) -> bool:
    from npmnv2.hub.locate import locate
    from npmnv2.weights.native import stated_digest
    from npmnv2.weights.readers import read_checkpoint

    try:
        path = locate(name_or_path)
        checkpoint = read_checkpoint(path)
        digest = stated_digest(path)
    except (Npmnv2Error, OSError) as error:
        log_stderr(str(error) if name_or_path in str(error) else f"{name_or_path}: {error}")
        return False
    found = f"sound, digest {digest}" if digest else _without_digest(path, checkpoint.source.get("sha256"))
    print(f"{path}: {found}")
    return True


def _without_digest(path: Path, sha256: str | None) -> str:
    what = f"; SHA-256 of the file {sha256}" if sha256 and path.is_file() else ""
    return f"complete, but its format has no digest inside{what}"
