"""What ``similar`` and ``duplicates`` share: a folder, its index and a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_backend, add_model, add_threads
from npmnv2.cli.console import log_stderr, progress
from npmnv2.images.folders import SUFFIXES
from npmnv2.memory import keep_freed_memory


def add_collection(command: argparse.ArgumentParser) -> None:
    """Add the folder of a command, where its index is, and the model."""
    command.add_argument("folder", metavar="FOLDER", help="photos, also those in folders inside it")
    command.add_argument("--index", type=Path, metavar="FILE", help="keeps the embeddings (default: in your cache)")
    add_model(command, "-m", "--model", default=DEFAULT_MODEL, help=f"name or file (default: {DEFAULT_MODEL})")
    add_backend(command)
    add_threads(command)
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="one line a photo")


def open_collection(options: argparse.Namespace) -> tuple[Any, Any]:
    """The photos of the folder, their index brought up to date, and the model."""
    import npmnv2
    from npmnv2.similarity import search

    if not Path(options.folder).is_dir():
        raise FileNotFoundError(f"{options.folder} must be an existing folder")
    keep_freed_memory()
    model = npmnv2.load(options.model, backend=options.backend, precision=options.precision, n_threads=options.threads)
    with _Bar(options.quiet) as bar:
        collection = search.open_collection(options.folder, model, options.index, bar.start)
    for error in collection.errors.values():
        log_stderr(str(error))
    if not len(collection) and not collection.errors:
        log_stderr(f"{options.folder} holds no photos ({', '.join(sorted(SUFFIXES))})")
    return collection, model


class _Bar:
    """A progress bar that begins when it is known how many files there are."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, files: Any) -> Callable[[], object]:
        """Begin with these files; what is returned counts one."""
        self._bar = bar = progress(len(files), self._quiet)
        return lambda: bar.update()


def printer(options: argparse.Namespace) -> Callable[[Any], None]:
    """How to print one result: as a JSON line, CSV with one header, or a table."""
    if options.json:
        return lambda result: print(result.to_json())
    if options.csv:
        headers = iter([True])
        return lambda result: print(result.to_csv(header=next(headers, False)), end="")
    return print


def exit_code(collection: Any, unusable: int = 0) -> int:
    """0 if all photos could be used; else say how many could not, and 1."""
    failed = len(collection.errors) + unusable
    if failed:
        log_stderr(f"{failed} photos could not be used")
    return 1 if failed or not len(collection) else 0
