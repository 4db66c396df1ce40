"""``npmnv2 similar``: the photos of a folder that resemble a photo most."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from npmnv2.cli.arguments import add_command, cosine, positive
from npmnv2.cli.collection import add_collection, exit_code, open_collection, printer
from npmnv2.cli.console import log_stderr
from npmnv2.cli.photos import find_photos

_EXAMPLES = (
    "similar cat.jpg photos/",
    "similar cat.jpg dog.jpg photos/ --top 3 --threshold 0.6 --csv",
    "similar cat.jpg photos/ --index photos.sqlite -m mobilenet_v2_1.4_224",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "similar", similar, _EXAMPLES)
    command.add_argument(
        "photos", nargs="+", metavar="QUERY", help="files, folders, patterns; - for an image on standard input"
    )
    command.set_defaults(recursive=False, null=False)
    command.add_argument("-k", "--top", type=positive, default=10, metavar="N", help="photos per query (default: 10)")
    command.add_argument("--threshold", type=cosine, default=0.0, metavar="T", help="least cosine (default: 0)")
    add_collection(command)


def similar(options: argparse.Namespace) -> int:
    """Find the photos of a folder that resemble a photo most."""
    from npmnv2.similarity.search import find_similar

    queries = find_photos(options)
    collection, model = open_collection(options)
    images = [query.image for query in queries]
    found = find_similar(collection, model, images, options.top, options.threshold, errors="return")
    show, unusable = printer(options), 0
    for query, result in zip(queries, found, strict=True):
        if isinstance(result, Exception):
            log_stderr(str(result) if query.name in str(result) else f"{query.name}: {result}")
            unusable += 1
        else:
            show(dataclasses.replace(result, source=query.name))
    return exit_code(collection, unusable)
