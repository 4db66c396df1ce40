"""Photos per second of a table by number of workers, beside a plain loop over `model.predict`; and many names.

    python benchmarks/scale.py --photos 1280 --json benchmarks/results/scale.json
    python benchmarks/scale.py --names 1000000 --json benchmarks/results/scale.json

All read the same photos from a folder, copies of the cat in the package. A table of few photos and one of many are
written; the difference in time over the difference in photos is the rate, and what is left is the time of the start.
The plain loop runs in this process once the network is warm, and keeps its results in memory.

Names are those of a file system in memory, in folders of a thousand; every name is the same photo. A run with one
worker, a thread, is begun in a process of its own, and killed once all names are listed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import distributed
import fsspec
import harness

import npmnv2
from npmnv2.scale import write_table

PART_SIZE = 128
# Of the plain loop, which needs fewer to tell its rate.
LOOP_PHOTOS = 512
FOLDER = 1000
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


class Names(fsspec.AbstractFileSystem):
    """``names:///N``: N photos in folders of a thousand, that are nowhere but here."""

    protocol = "names"
    cachable = False
    cat = resources.files("npmnv2").joinpath("data/cat.jpg").read_bytes()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
        root, _, folder = path.strip("/").partition("/")
        if folder:
            last = min(FOLDER, int(root) - FOLDER * int(folder))
            return [{"name": f"/{root}/{folder}/{at:03}.jpg", "type": "file", "size": 1} for at in range(last)]
        count = -(-int(root) // FOLDER)
        return [{"name": f"/{root}/{at:06}", "type": "directory", "size": 0} for at in range(count)]

    def exists(self, path: str, **_: Any) -> bool:
        return "*" not in path

    def isdir(self, path: str) -> bool:
        return not path.endswith(".jpg")

    def _open(self, path: str, *_: Any, **__: Any) -> BytesIO:
        return BytesIO(self.cat)


def write_names(count: int, out: str) -> None:
    """Begin a table of so many names; for a process of its own."""
    fsspec.register_implementation("names", Names)
    model = npmnv2.load(n_threads=1)
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        Path(out).mkdir()  # the clock of `names` starts
        write_table(model, [f"names:///{count}"], out, scheduler=cluster.scheduler_address, recursive=True)


def names(count: int) -> dict[str, float]:
    """Seconds to the first part and until all names are listed, and the peak memory of the process until then."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        process = multiprocessing.get_context("spawn").Process(target=write_names, args=(count, str(out)))
        process.start()
        try:
            awaited(process, out)
            start = time.perf_counter()
            awaited(process, out / "part-000000.parquet")
            first = time.perf_counter() - start
            awaited(process, out / "_manifest" / "listed.json")
            return {"first_part_s": first, "listed_s": time.perf_counter() - start, "peak_mb": peak_mb(process.pid)}
        finally:
            process.kill()
            process.join()


def awaited(process: Any, path: Path) -> None:
    while not path.exists():
        if not process.is_alive():
            raise RuntimeError(f"the run ended before {path.name} was there")
        time.sleep(0.005)


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def measure_names(count: int) -> dict[str, Any]:
    """Of many names, and for comparison of a thousandth of them."""
    few = max(1, count // 1000)
    return {
        "names": {str(number): names(number) for number in (few, count)},
        "names_versions": harness.versions(PACKAGES),
        "names_date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1280)
    parser.add_argument("--names", type=int, metavar="N", help="only list N names, and add that to --json")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure_names(options.names) if options.names else measure(options.photos)
    print(json.dumps(figures, indent=2))
    if options.json:
        # Each of the two replaces its own figures only.
        earlier = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
        figures = {**earlier, **figures}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
