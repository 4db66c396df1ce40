"""The command line: data on standard output, messages and progress on standard error.

Exit codes: 0 all well, 1 something failed (standard error says what), 2 the command was not understood.
"""

# PYTHON_ARGCOMPLETE_OK
from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import npmnv2
from npmnv2.cli import (
    checkpoints,
    compare,
    convert,
    demo,
    duplicates,
    explain,
    features,
    info,
    predict,
    profile,
    quantize,
    serve,
    similar,
    speed,
    teach,
    verify,
)
from npmnv2.cli.arguments import Parser
from npmnv2.cli.console import log_stderr, make_output_safe, show_log
from npmnv2.errors import Npmnv2Error

_COMMANDS = (
    predict,
    features,
    similar,
    duplicates,
    info,
    convert,
    quantize,
    verify,
    checkpoints,
    compare,
    explain,
    profile,
    demo,
    serve,
    teach,
    speed,
)

_EPILOG = """\
start here:
  npmnv2 demo                                a prediction right after the installation
  npmnv2 predict cat.jpg                     classes of a photo
  npmnv2 COMMAND --help                      options and examples of a command

Completion for bash and zsh: pip install 'npmnv2[completion]', then eval "$(register-python-argcomplete npmnv2)".
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    make_output_safe()
    show_log()
    parser = build_parser()
    _offer_completion(parser)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = int(options.run(options))
        sys.stdout.flush()  # here, so that a full disk or a reader that left is met by the lines below
        return code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: that is its right. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    # What a user can cause; anything else is a bug and shows its traceback.
    except (Npmnv2Error, OSError) as error:
        log_stderr(str(error))
        return 1


def build_parser() -> Parser:
    """All commands and their options."""
    parser = Parser(prog="npmnv2", description="MobileNetV2 on a CPU, with NumPy and Numba.", epilog=_EPILOG)
    parser.add_argument("-V", "--version", action="version", version=f"npmnv2 {npmnv2.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


def _offer_completion(parser: Parser) -> None:
    """Answer a shell that asks what could come next, where the package for that is installed."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


if __name__ == "__main__":
    sys.exit(main())
