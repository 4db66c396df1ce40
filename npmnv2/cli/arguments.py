"""What the commands' parsers share: one parser class, kinds of numbers, groups of options."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from npmnv2.backends.selection import BACKENDS, PRECISIONS
from npmnv2.hub import PACKAGED
from npmnv2.hub.registry import names

DEFAULT_MODEL = PACKAGED

# The presets of the image processor; a test compares them, so that --help need not import it.
TRANSFORMS = ("deeplab", "hf", "keras", "raw", "slim", "ssd")


class Parser(argparse.ArgumentParser):
    """A parser that reports an unknown option with its own usage and the nearest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    # argparse leaves what a command does not know to the main parser, whose usage names no option of the command.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and stop at the first thing that is not understood."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown[0])}")
        return namespace, unknown

    def _hint(self, unknown: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        nearest = difflib.get_close_matches(unknown.partition("=")[0], known, n=1)
        return f" (did you mean {nearest[0]}?)" if nearest else ""

    def error(self, message: str) -> NoReturn:
        """Print this command's usage and the message, and exit with 2."""
        super().error(f"{message}\nTry `{self.prog} --help`.")


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], examples: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a command whose help is the docstring of what it runs, with examples below the options."""
    summary = (run.__doc__ or "").strip().split("\n")[0]
    epilog = "\n".join(["examples:", *(f"  npmnv2 {example}" for example in examples)]) if examples else None
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, epilog=epilog)
    command.set_defaults(run=run)
    return command


def add_photos(command: argparse.ArgumentParser) -> None:
    """Add the photos of a command, and how a model runs on them."""
    command.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="files, folders, patterns; - for an image, or a list of files, on standard input",
    )
    command.add_argument("-r", "--recursive", action="store_true", help="also search folders inside folders")
    command.add_argument("-0", "--null", action="store_true", help="the list ends each name with NUL: find -print0")
    add_model(command, "-m", "--model", default=DEFAULT_MODEL, help=f"name or file (default: {DEFAULT_MODEL})")
    add_backend(command)
    command.add_argument("--batch-size", type=positive, metavar="N", help="photos run at once (default: 8, masks 1)")
    command.add_argument("--transform", choices=TRANSFORMS, help="how photos are prepared (default: as the model says)")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    add_threads(command)


def add_model(command: argparse.ArgumentParser, *flags: str, **options: Any) -> None:
    """Add an argument that takes a registered name or a file; a shell completes both."""
    action: Any = command.add_argument(*flags, **options)
    action.completer = _complete_models


def add_backend(command: argparse.ArgumentParser) -> None:
    """Add what runs a network, and the precision of its products."""
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="default: the fastest that is installed")
    add_precision(command)


def add_precision(command: argparse.ArgumentParser) -> None:
    """Add the precision of products."""
    command.add_argument(
        "--precision", default="float32", choices=PRECISIONS, help="of products; bf16 is faster on some processors"
    )


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add the number of threads."""
    command.add_argument("--threads", type=positive, metavar="N", help="default: all CPUs that this process may use")


def _complete_models(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import FilesCompleter

    return [*names(), *FilesCompleter()(prefix)]


def positive(text: str) -> int:
    """Whole number of at least 1."""
    value = 0
    with suppress(ValueError):
        value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


def share(text: str) -> float:
    """Number from 0 to 1."""
    value = -1.0
    with suppress(ValueError):
        value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def cosine(text: str) -> float:
    """Number from -1 to 1."""
    value = -2.0
    with suppress(ValueError):
        value = float(text)
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from -1 to 1, got {text!r}")
    return value


def positive_numbers(text: str) -> tuple[float, ...]:
    """Numbers above 0 with commas between."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise argparse.ArgumentTypeError(f"must be numbers above 0 with commas between, got {text!r}")
    return numbers
