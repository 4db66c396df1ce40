"""Many photos on the command line: ``predict`` and ``features`` into a Parquet table, by processes or by a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from npmnv2.cli.arguments import positive
from npmnv2.cli.console import log_stderr
from npmnv2.errors import ArgumentError

# What prints or draws single results.
_SINGLE = ("json", "csv", "coco", "html", "overlay", "endpoint", "null")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of tables to a command."""
    group = command.add_argument_group(
        "tables of many photos",
        "with --scheduler or --workers, photos may be URLs (s3://bucket/**/*.jpg), archives or .txt lists, and "
        "--out is the path or URL of a Parquet table, a folder; the same command goes on with a run that was stopped",
    )
    place = group.add_mutually_exclusive_group()
    place.add_argument("--scheduler", metavar="URL", help="a Dask cluster's: tcp://host:8786")
    place.add_argument("--workers", type=positive, metavar="N", help="processes to start on this machine")
    group.add_argument("--part-size", type=positive, metavar="N", help="photos of one file of the table (default: 256)")


def is_wanted(options: argparse.Namespace) -> bool:
    """Whether a table was asked for.

    Raises
    ------
    ArgumentError
        If not, but an option of tables was given.
    """
    wanted = bool(options.scheduler or options.workers)
    for name in ("part_size", "masks"):
        if not wanted and getattr(options, name, None):
            raise ArgumentError(f"--{name.replace('_', '-')} is for tables: give --workers or --scheduler with it")
    return wanted


def write(options: argparse.Namespace, model: Any, **arguments: Any) -> int:
    """Write a table of all photos."""
    _check(options)
    from npmnv2.scale import write_table

    if options.transform is not None:
        arguments["transform"] = options.transform
    if options.part_size is not None:
        arguments["part_size"] = options.part_size
    try:
        summary = write_table(
            model,
            options.photos,
            str(options.out),
            scheduler=options.scheduler,
            workers=options.workers,
            recursive=options.recursive,
            backend=options.backend,
            n_threads=options.threads or 1,
            quiet=options.quiet,
            batch_size=options.batch_size,
            **arguments,
        )
    except KeyboardInterrupt:
        log_stderr(f"stopped; the same command goes on with {options.out}")
        raise
    log_stderr(f"wrote {summary.photos} photos to {summary.url}")
    if summary.failed:
        log_stderr(f"{summary.failed} of {summary.photos} photos could not be used; their rows have an error")
    return 1 if summary.failed else 0


def _check(options: argparse.Namespace) -> None:
    if options.out is None:
        raise ArgumentError("--out must say where the table goes: a folder's path or URL")
    if given := [name for name in _SINGLE if getattr(options, name, None)]:
        raise ArgumentError(f"--{given[0]} must be left out with --scheduler or --workers: they write a table")
    if "-" in options.photos:
        raise ArgumentError("standard input cannot be read again by a run that goes on: list the names in a .txt file")
