"""The terminal: messages, progress and questions on standard error, widths, and text that any encoding can hold."""

from __future__ import annotations

import codecs
import logging
import shutil
import sys
from typing import Any

from npmnv2.errors import ArgumentError


def log_stderr(message: str) -> None:
    """Write a message for people."""
    print(f"npmnv2: {message}", file=sys.stderr)


class _StandardError(logging.Handler):
    """Shows what the package logs, as this module's own messages."""

    def emit(self, record: logging.LogRecord) -> None:
        log_stderr(record.getMessage())


def show_log() -> None:
    """Show on standard error what the package has to say: hints, and that it is compiling."""
    logger = logging.getLogger("npmnv2")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        logger.addHandler(_StandardError())


def progress(total: int, quiet: bool) -> Any:
    """A progress bar on standard error; hidden where it would not be seen or there is nothing to wait for."""
    from tqdm import tqdm

    hidden = quiet or total < 2 or not sys.stderr.isatty()
    return tqdm(total=total, unit="photo", file=sys.stderr, disable=hidden, leave=False)


def output_width() -> int | None:
    """Columns of the terminal that standard output is; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def confirm(question: str) -> bool:
    """Ask on standard error for a yes.

    Raises
    ------
    ArgumentError
        If nobody is there to answer.
    """
    if not sys.stdin.isatty():
        raise ArgumentError(f"{question} Add --yes to do so without a terminal")
    print(f"npmnv2: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def make_output_safe() -> None:
    r"""Print what an encoding lacks as ``\uXXXX``, which is also how JSON writes it, instead of failing halfway.

    That is any file name that is not valid UTF-8, and in an ASCII locale any other character.
    """
    codecs.register_error("json_escape", _json_escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="json_escape")


def _json_escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end
