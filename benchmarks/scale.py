"""Photos per second of a table by number of workers, beside a plain loop over `model.predict`.

    python benchmarks/scale.py --photos 1024 --json benchmarks/results/scale.json

All read the same photos from a folder, copies of the cat in the package. A table of few photos and one of many are
written; the difference in time over the difference in photos is the rate, and what is left is the time of the start.
The plain loop runs in this process once the network is warm, and keeps its results in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import distributed
import harness

import npmnv2
from npmnv2.scale import write_table

PART_SIZE = 128
# Of the plain loop, which needs fewer to tell its rate.
LOOP_PHOTOS = 512
PACKAGES = ("npmnv2", "numpy", "pillow", "dask", "pyarrow")


def seconds(call: Callable[[], object]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def copies(folder: Path, count: int) -> list[str]:
    """Photos that are files of their own."""
    cat = resources.files("npmnv2").joinpath("data/cat.jpg").read_bytes()
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for path in paths:
        path.write_bytes(cat)
    return [str(path) for path in paths]


def plain(names: list[str], threads: int) -> float:
    """Photos per second of a loop."""
    model = npmnv2.load(n_threads=threads)
    model.predict(names[:16])

    def loop() -> None:
        for result in model.predict(iter(names)):
            result.to_dict()

    return len(names) / seconds(loop)


def rate(names: list[str], folder: Path, workers: int, tasks: int = 1, threads: int = 1) -> dict[str, float]:
    """Photos per second of a table, by workers that compute `tasks` at once, and the seconds of its start."""
    model = npmnv2.load(n_threads=1)
    few = 2 * PART_SIZE * workers * tasks
    options = {"dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=workers, threads_per_worker=tasks, **options) as cluster:

        def write(count: int) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            where = {"scheduler": cluster.scheduler_address, "n_threads": threads, "part_size": PART_SIZE}
            summary = write_table(model, names[:count], str(folder), **where)
            assert (summary.photos, summary.failed) == (count, 0)

        write(few)
        short, long = seconds(lambda: write(few)), seconds(lambda: write(len(names)))
    per_photo = (long - short) / (len(names) - few)
    return {"per_second": 1 / per_photo, "start_s": short - few * per_photo, "whole_per_second": len(names) / long}


def measure(count: int) -> dict[str, Any]:
    """All figures."""
    cpus = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        names, out = copies(Path(folder), count), Path(folder, "out")
        loops = {str(threads): plain(names[:LOOP_PHOTOS], threads) for threads in sorted({1, cpus})}
        tables = {
            f"{workers} × {tasks} × {threads}": rate(names, out, workers, tasks, threads)
            for workers, tasks, threads in dict.fromkeys([(1, 1, 1), (cpus, 1, 1), (1, cpus, 1), (1, 1, cpus)])
        }
    return {
        "photos": count,
        "part_size": PART_SIZE,
        "plain": loops,
        "tables": tables,
        "machine": harness.machine(),
        "versions": harness.versions(PACKAGES),
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1280)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.photos)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
