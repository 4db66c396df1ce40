"""Compare npmnv2 with other runtimes in every cell of a grid: tasks × sizes × batches × threads × numbers.

    nice python benchmarks/grid.py --models DIR --prepare [WORD …]
    chrt -f 10 python benchmarks/grid.py --models DIR [--minutes 35] [--again] [WORD …]

The first converts all networks for the other runtimes, which takes minutes and may be stopped and run again. The
second measures: every cell is a comparison of its own (`peers.py`), written down as soon as it is done. Run again,
this goes on with the cells that are missing; with words, it measures those anew whose names contain one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import harness
import recorded
from recorded import COLUMNS_MODEL, FLOAT_GRID, GRID, GRID_WORKS, ONCE_PER_COLUMN, OURS, RIVALS, WAYS, Work

# No runtime here spins for longer than that after a call; one thread has no other that could.
REST = {1: 0.01, 2: 0.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--models", type=Path, metavar="DIR", required=True, help="where converted models are kept")
    parser.add_argument("--prepare", action="store_true", help="convert, and measure nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.03, help="per runtime and round")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no cell after this time")
    parser.add_argument("--again", action="store_true", help="measure all cells anew")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.models, chosen(options.words))
        return
    end = time.monotonic() + 60 * options.minutes
    done = {} if options.again else load()
    for work in chosen(options.words) if options.words else missing(done):
        if time.monotonic() > end:
            break
        start = time.monotonic()
        figures, others = undisturbed(lambda work=work: measure(work, options))
        done[str(work)] = {**summary(figures), "others": round(others, 3)}
        save(done)
        print(
            f"{done[str(work)]['ratio']:.2f}  {work}  ({time.monotonic() - start:.1f} s, others {others:.1%})",
            flush=True,
        )
    print(recorded.sentence(done))


def chosen(words: Iterable[str]) -> list[Work]:
    """The cells whose names contain one of the words; all without words."""
    words = tuple(words) or ("",)
    return [work for work in GRID_WORKS if any(word in str(work) for word in words)]


def prepare(models: Path, works: Iterable[Work]) -> None:
    """Convert every network that one of the cells needs."""
    import comparison
    import numpy as np
    import prepared
    from network import network

    prepared.models.keep_in(models)
    for task, model, numbers in dict.fromkeys((work.task, work.model, work.numbers) for work in works):
        start, net = time.monotonic(), network(task, model)
        image = np.zeros((1, *net.input_shape), np.float32)
        comparison.set_up(net, image, 1, [OURS, *RIVALS, *WAYS], numbers)
        print(f"{net.name} {numbers} ({time.monotonic() - start:.1f} s)", flush=True)


def missing(done: Iterable[str]) -> list[Work]:
    """The cells that are not there yet."""
    return [work for work in GRID_WORKS if str(work) not in set(done)]


def runtimes(work: Work) -> list[str]:
    """What is measured in a cell."""
    once = ONCE_PER_COLUMN if work in FLOAT_GRID and work.model == COLUMNS_MODEL else ()
    return [OURS, *RIVALS, *WAYS, *once]


def undisturbed(run: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """Run until other processes took little of the CPUs meanwhile; return the least disturbed run and their share."""
    runs = []
    for _ in range(TRIES):
        start, before = time.monotonic(), others_seconds()
        figures = run()
        runs.append((figures, (others_seconds() - before) / (time.monotonic() - start)))
        if runs[-1][1] < DISTURBED:
            break
    return min(runs, key=lambda run: run[1])


def others_seconds(stat: Path = Path("/proc/stat")) -> float:
    """CPU time so far that went to neither this process and its children nor to idling; 0 where that is not known."""
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, *more = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


# Of one CPU: what other processes may take while a cell is measured, and how often it is measured at most.
DISTURBED, TRIES = 0.05, 3


def measure(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison of one cell in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        arguments = {
            **work._asdict(),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "rest": REST[work.threads],
            "models": options.models,
            "json": file,
        }
        command = [sys.executable, Path(__file__).with_name("peers.py")]
        command += [f"--{name}={value}" for name, value in arguments.items()]
        subprocess.run([*command, "--only", *runtimes(work)], check=True, capture_output=True)
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
        "versions": ", ".join(
            f"{name} {figures['versions'][name]}" for name in PACKAGES if name in figures["versions"]
        ),
    }


PACKAGES = ("ai-edge-litert", "openvino", "onnxruntime", "nncf", "ncnn", "MNN")


def load() -> dict[str, Any]:
    """The cells that were measured before."""
    return recorded.read(GRID) if GRID.exists() else {}


def save(cells: dict[str, Any]) -> None:
    """Write the cells in the grid's order, one a line, whole or not at all."""
    lines = [f" {json.dumps(str(work))}: {json.dumps(cells[str(work)])}" for work in GRID_WORKS if str(work) in cells]
    new = GRID.with_suffix(".new")
    new.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    new.replace(GRID)


if __name__ == "__main__":
    main()
