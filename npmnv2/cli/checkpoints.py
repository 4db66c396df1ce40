"""The commands about checkpoints: ``npmnv2 list``, ``npmnv2 download`` and ``npmnv2 cache``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from npmnv2.errors import ArgumentError, Npmnv2Error
from npmnv2.hub.registry import SOURCES


def add_commands(commands: Any) -> None:
    """Add them to the sub-parsers of the command line."""
    command = add_command(commands, "list", list_checkpoints)
    command.add_argument("--source", choices=SOURCES, help="only what this source has")
    command.add_argument("--json", action="store_true")

    command = add_command(commands, "download", download)
    command.add_argument("names", nargs="*", metavar="NAME", help="names that `npmnv2 list` shows")
    command.add_argument("--all", action="store_true", help="all of --source, which is tensorflow if not given")
    command.add_argument("--source", choices=SOURCES, help="where to get a name from that several sources have")
    command.add_argument("--dir", help="write there instead of the cache; NPMNV2_HOME can point to it")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    command = add_command(commands, "cache", cache)
    command.add_argument("names", nargs="*", metavar="NAME", help="what to clear (default: all)")
    command.add_argument("--clear", action="store_true", help="delete the files")
    command.add_argument("--forget", action="store_true", help="with --clear: trust the next download anew")
    command.add_argument("--dir", help="another directory than the cache")
    command.add_argument("--json", action="store_true")


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """Add a command whose help is the docstring of what it runs."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
    command.set_defaults(run=run)
    return command


def list_checkpoints(options: argparse.Namespace) -> int:
    """Show the checkpoints that can be had by name, and which are cached."""
    from npmnv2.hub.fetch import catalog

    rows = catalog(options.source)
    print(json.dumps(rows, ensure_ascii=False) if options.json else catalog_table(rows))
    return 0


def download(options: argparse.Namespace) -> int:
    """Download checkpoints and print where each is."""
    from npmnv2.hub.fetch import fetch, names

    if options.all == bool(options.names):
        raise ArgumentError("download needs either names or --all")
    source = options.source or ("tensorflow" if options.all else None)
    failed = 0
    for name in names(source) if options.all else options.names:
        try:
            print(fetch(name, source=source, cache_dir=options.dir, progress=not options.quiet))
        except (Npmnv2Error, OSError) as error:  # one that fails does not keep the others from being downloaded
            failed += 1
            print(f"npmnv2: {error}", file=sys.stderr)
    return 1 if failed else 0


def cache(options: argparse.Namespace) -> int:
    """Show what is in the cache, or clear it."""
    from npmnv2.hub.fetch import cache_info, clear_cache

    if options.clear:
        freed = clear_cache(options.names or None, cache_dir=options.dir, forget_digests=options.forget)
        print(f"npmnv2: freed {freed / 1e6:.1f} MB", file=sys.stderr)
        return 0
    if options.names or options.forget:
        raise ArgumentError("cache takes names and --forget only together with --clear")
    facts = cache_info(options.dir)
    print(json.dumps(facts, ensure_ascii=False) if options.json else _cache_table(facts))
    return 0


_COLUMNS = "{:40} {:14} {:>4} {:>7} {:>6}  {:22} {:18} {:17} {}"


def catalog_table(rows: list[dict[str, Any]]) -> str:
    """Rows of :func:`npmnv2.hub.fetch.catalog` as a text for people."""
    head = _COLUMNS.format("name", "task", "size", "classes", "MB", "accuracy %", "license", "sources", "cached")
    return "\n".join([head, *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    line = _COLUMNS.format(
        row["name"],
        row["task"],
        row["image_size"],
        row["classes"] or "–",
        row["megabytes"] or "–",
        _accuracy(row["accuracy"]),
        row["license"],
        ", ".join(row["sources"]),
        "yes" if row["cached"] else "",
    )
    return line.rstrip()


def _accuracy(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{measure} {percent}" for measure, percent in accuracy.items()) or "–"


def _cache_table(facts: dict[str, Any]) -> str:
    lines = [f"{file['bytes'] / 1e6:8.1f} MB  {file['source']:12} {file['name']}" for file in facts["files"]]
    return "\n".join([*lines, f"{facts['bytes'] / 1e6:8.1f} MB  in {facts['directory']}"])
