"""Compare npmnv2 with other runtimes: same network, weights, images, threads and CPUs, in turn in one process.

    python benchmarks/peers.py --batch 1 --threads 1 [--model 1.0_224] [--task classify] [--numbers int8] [--json FILE]

All outputs are compared first; only then are the runtimes timed, for several rounds in rotating order. Other load
on the machine spoils the figures; where the system allows it, run `chrt -f 10 python benchmarks/peers.py …`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import harness


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="images per inference")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="1.0_224", help="depth multiplier and image size")
    parser.add_argument("--task", choices=("classify", "segment", "detect"), default="classify")
    parser.add_argument("--numbers", choices=("float32", "bf16", "uint8", "int8"), default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="per runtime and round")
    parser.add_argument(
        "--rest", type=float, default=0.15, help="seconds before each, while others' threads still spin"
    )
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="keep converted models there, and take those that are"
    )
    parser.add_argument("--peak", action="store_true", help="measure what the cores can do with bytes, too")
    parser.add_argument("--only", nargs="+", metavar="RUNTIME", help="some of the runtimes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    # Before anything is imported that counts CPUs or starts threads.
    harness.pin(options.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import comparison
    import prepared

    if options.models:
        prepared.models.keep_in(options.models)
    work = (options.task, options.model, options.batch, options.threads, options.numbers)
    measured = comparison.compare(work, options.only or (), options.rounds, options.seconds, options.rest)
    if options.peak:
        measured["peak_gops"] = comparison.peak_of(options.threads)
    print(comparison.report(measured))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
