"""``npmnv2 profile``: where the time goes, layer by layer."""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_backend, add_command, add_model, add_threads, positive
from npmnv2.cli.console import log_stderr
from npmnv2.files import check_target

_EXAMPLES = (
    "profile",
    "profile cat.jpg -m mobilenet_v2_1.0_224 --threads 1",
    "profile cat.jpg --html profile.html",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "profile", profile, _EXAMPLES)
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="what to run on (default: the cat in the package)")
    add_model(command, "-m", "--model", default=DEFAULT_MODEL, help=f"name or file (default: {DEFAULT_MODEL})")
    add_backend(command)
    command.add_argument("--runs", type=positive, default=10, metavar="N", help="times are medians of N (10)")
    command.add_argument("--json", action="store_true", help="one JSON list, an object for each layer")
    command.add_argument("--html", type=Path, metavar="FILE", help="also write a page for a browser")
    add_threads(command)


def profile(options: argparse.Namespace) -> int:
    """Time every layer of a network on one photo."""
    from npmnv2.lab.environment import environment
    from npmnv2.lab.profiling import median_profile, peak_speed
    from npmnv2.loading import load

    if options.html is not None:
        check_target(options.html)
    model = load(options.model, backend=options.backend, precision=options.precision, n_threads=options.threads)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        found = median_profile(model, options.photo or cat, options.runs)
    print(json.dumps([timing._asdict() for timing in found]) if options.json else found)
    if options.html is not None:
        from npmnv2.reports.profile import write_profile

        # Kernels for integers have a peak of their own, which is not measured.
        peak = peak_speed(model.backend, model.n_threads) if model.quantization is None else None
        facts = {**environment(), "threads": model.n_threads}
        write_profile(found, Path(options.model).name, facts, options.html, peak)
        log_stderr(f"wrote {options.html}")
    return 0
