"""The commands about checkpoints: ``npmnv2 list``, ``npmnv2 download`` and ``npmnv2 cache``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from npmnv2.cli.arguments import add_command
from npmnv2.cli.console import confirm, log_stderr, output_width
from npmnv2.errors import ArgumentError, Npmnv2Error
from npmnv2.hub.registry import SOURCES, entry, names


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    command = add_command(commands, "list", list_checkpoints, ("list --source keras", "list --json"))
    command.add_argument("--source", choices=SOURCES, help="only what this source has")
    command.add_argument("--json", action="store_true", help="one JSON array with everything")

    command = add_command(commands, "download", download, ("download mobilenet_v2_1.0_224", "download --all --dir usb"))
    _add_names(command, "names that `npmnv2 list` shows")
    command.add_argument("--all", action="store_true", help="all of --source, which is tensorflow if not given")
    command.add_argument("--source", choices=SOURCES, help="where to get a name from that several sources have")
    command.add_argument("--dir", help="write there instead of the cache; NPMNV2_HOME can point to it")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    command = add_command(commands, "cache", cache, ("cache", "cache --clear mobilenet_v2_1.4_224"))
    _add_names(command, "what to clear (default: all)")
    command.add_argument("--clear", action="store_true", help="delete the files, after a question")
    command.add_argument("-y", "--yes", action="store_true", help="with --clear: do not ask")
    command.add_argument("--forget", action="store_true", help="with --clear: trust the next download anew")
    command.add_argument("--dir", help="a directory of downloads instead of the cache")
    command.add_argument("--json", action="store_true", help="one JSON object")


def _add_names(command: argparse.ArgumentParser, text: str) -> None:
    action: Any = command.add_argument("names", nargs="*", metavar="NAME", help=text)
    action.completer = lambda **_: names()


def list_checkpoints(options: argparse.Namespace) -> int:
    """List the checkpoints that have names, and which are cached."""
    from npmnv2.hub.fetch import catalog

    rows = catalog(options.source)
    print(json.dumps(rows, ensure_ascii=False) if options.json else catalog_table(rows, output_width()))
    return 0


def download(options: argparse.Namespace) -> int:
    """Download checkpoints and print where each is."""
    from npmnv2.hub.fetch import fetch

    if options.all == bool(options.names):
        raise ArgumentError("download needs either names or --all")
    source = options.source or ("tensorflow" if options.all else None)
    failed = 0
    for name in names(source) if options.all else options.names:
        try:
            print(fetch(name, source=source, cache_dir=options.dir, progress=not options.quiet))
        except (Npmnv2Error, OSError) as error:  # one that fails does not keep the others from being downloaded
            failed += 1
            log_stderr(str(error))
    return 1 if failed else 0


def cache(options: argparse.Namespace) -> int:
    """Show what is in the cache, or clear it."""
    from npmnv2.hub.fetch import cache_info, clear_cache

    facts = cache_info(options.dir)
    if options.clear:
        wanted = {entry(name).name for name in options.names} or set(names())
        size = sum(file["bytes"] for file in facts["files"] if file["name"] in wanted)
        what = ", ".join(options.names) or "all checkpoints"
        if not options.yes and not confirm(f"Delete {what} ({size / 1e6:.1f} MB) from {facts['directory']}?"):
            log_stderr("nothing was deleted")
            return 1
        freed = clear_cache(options.names or None, cache_dir=options.dir, forget_digests=options.forget)
        log_stderr(f"freed {freed / 1e6:.1f} MB")
        return 0
    if options.names or options.forget or options.yes:
        raise ArgumentError("cache takes names, --forget and --yes only together with --clear")
    print(json.dumps(facts, ensure_ascii=False) if options.json else _cache_table(facts))
    return 0


# Columns of the list and their formats, and which to leave out first where a terminal is narrow.
_COLUMNS = {
    "name": "<40",
    "task": "<14",
    "size": ">4",
    "classes": ">7",
    "MB": ">6",
    "accuracy %": "<22",
    "license": "<18",
    "sources": "<17",
    "cached": "<6",
}
_LEFT_OUT_FIRST = ("license", "sources", "accuracy %", "classes", "MB", "task", "size")


def catalog_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Rows of :func:`npmnv2.hub.fetch.catalog` as a table, with the columns that `width` has room for."""
    columns = dict(_COLUMNS)
    for column in _LEFT_OUT_FIRST:
        if width is None or len(_line(dict.fromkeys(columns, ""), columns)) <= width:
            break
        del columns[column]
    lines = [dict(zip(columns, columns)), *map(_cells, rows)]
    return "\n".join(_line(cells, columns).rstrip() for cells in lines)


def _line(cells: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    return " ".join(f"{cells[column]:{form}}" for column, form in columns.items())


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "task": row["task"],
        "size": row["image_size"],
        "classes": row["classes"] or "–",
        "MB": row["megabytes"] or "–",
        "accuracy %": _accuracy(row["accuracy"]),
        "license": row["license"],
        "sources": ", ".join(row["sources"]),
        "cached": "yes" if row["cached"] else "",
    }


def _accuracy(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{measure} {percent}" for measure, percent in accuracy.items()) or "–"


def _cache_table(facts: dict[str, Any]) -> str:
    lines = [f"{file['bytes'] / 1e6:8.1f} MB  {file['source']:12} {file['name']}" for file in facts["files"]]
    return "\n".join([*lines, f"{facts['bytes'] / 1e6:8.1f} MB  in {facts['directory']}"])
