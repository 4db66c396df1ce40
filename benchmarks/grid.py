"""Compare npmnv2 with other runtimes in every cell of a grid: sizes × batches × threads × tasks.

    chrt -f 10 python benchmarks/grid.py [--minutes 30] [--again] [WORD …]

Every cell is a comparison of its own (`peers.py`), written down as soon as it is done. Run again, this goes on with the
cells that are missing; with words, it measures those anew whose names contain one of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import recorded
from recorded import GRID, OURS, RIVALS, SPLIT_OPENVINO, Work

MULTIPLIERS, SIZES = ("0.35", "0.5", "0.75", "1.0"), (96, 128, 160, 192, 224)
OFFICIAL = (*(f"{m}_{s}" for m, s in itertools.product(MULTIPLIERS, SIZES)), "1.3_224", "1.4_224")
SEGMENTERS = ("1.0_257", "1.0_257_8", "1.0_513", "1.0_513_8")
CELLS = (
    *(Work(model, batch, threads) for batch, threads in ((1, 1), (1, 2), (8, 1), (8, 2), (32, 1), (32, 2))
      for model in OFFICIAL),
    *(Work(model, 1, threads, "segment") for threads in (1, 2) for model in SEGMENTERS),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no cell after this time")
    parser.add_argument("--again", action="store_true", help="measure all cells anew")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    done = {} if options.again else load()
    for work in missing(done, options.words):
        if time.monotonic() > end:
            break
        done[str(work)] = summary(measure(work, options.rounds))
        save(done)
        print(f"{done[str(work)]['ratio']:.2f}  {work}", flush=True)
    print(recorded.sentence(done))


def missing(done: Iterable[str], words: Iterable[str]) -> list[Work]:
    """The cells that are not there yet, or that a word asks for."""
    if words := tuple(words):
        return [work for work in CELLS if any(word in str(work) for word in words)]
    return [work for work in CELLS if str(work) not in set(done)]


def measure(work: Work, rounds: int) -> dict[str, Any]:
    """Run the comparison of one cell in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        arguments = [f"--{name}={value}" for name, value in work._asdict().items()]
        script = Path(__file__).with_name("peers.py")
        command = [sys.executable, script, *arguments, f"--rounds={rounds}", "--seconds=0.05", f"--json={file}"]
        only = ["--only", OURS, *RIVALS, SPLIT_OPENVINO]
        subprocess.run([*command, *only], check=True, capture_output=True)
        return recorded.read(file)


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a comparison: milliseconds per image, and the ratio to the best of the others."""
    timings = recorded.shown(figures)
    best = min((name for name in timings if name != OURS), key=lambda name: timings[name].ms)
    return {
        "ratio": round(harness.ratio(timings[OURS].rounds, timings[best].rounds), 3),
        "best": best,
        "ms": {name: timing.ms for name, timing in timings.items()},
        "date": figures["date"],
        "processor": figures["machine"]["processor"],
        "versions": " ".join(f"{name} {figures['versions'][package]}" for name, package in PACKAGES.items()),
    }


PACKAGES = {"litert": "ai-edge-litert", "openvino": "openvino", "onnxruntime": "onnxruntime"}


def load() -> dict[str, Any]:
    """The cells that were measured before."""
    return recorded.read(GRID) if GRID.exists() else {}


def save(cells: dict[str, Any]) -> None:
    """Write the cells in the grid's order, one a line, whole or not at all."""
    lines = [f" {json.dumps(str(work))}: {json.dumps(cells[str(work)])}" for work in CELLS if str(work) in cells]
    new = GRID.with_suffix(".new")
    new.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    new.replace(GRID)


if __name__ == "__main__":
    main()
