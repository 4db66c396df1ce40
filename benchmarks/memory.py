"""How much memory a prediction needs, model included.

    python benchmarks/memory.py [--json FILE]

Every runtime loads a network from a file in its own format in a process of its own and runs it three times on one
image that is already an array. Counted is the largest resident size of the process, less what Python and NumPy take.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
from cold_start import SCRIPTS, START, write_models

# Task and model, and the side of the image.
WORKS = {("classify", "1.0_224"): 224, ("segment", "1.0_513"): 513}

PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results: dict[str, dict[str, float]] = {}
    for (task, model), size in WORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            for name, path in write_models(Path(folder), task, model).items():
                results.setdefault(name, {})[f"{task} {model}"] = peak_megabytes(name, path, size)
    columns = [f"{task} {model}" for task, model in WORKS]
    rows = [[name, *(f"{r[c]:.0f}" if c in r else "" for c in columns)] for name, r in results.items()]
    print(harness.table(["peak memory, MB", *columns], rows))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"machine": harness.machine(), "versions": harness.versions(("npmnv2", "numba")), "results": results}
        options.json.write_text(json.dumps(about, indent=1) + "\n")


def peak_megabytes(name: str, model: str, size: int) -> float:
    """Return the megabytes that a process takes beyond Python and NumPy, in its second run, all kernels compiled."""
    once = SCRIPTS[name].format(model=model, size=size)
    again = "".join(f"\n{line}" for line in 2 * [once.splitlines()[-1].split("; ")[-1]])
    script = f"{START.format(size=size)}before = {PEAK}\n{once}{again}\nprint({PEAK} - before)"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
    return round(float(done.stdout.splitlines()[-1]), 1)


if __name__ == "__main__":
    main()
