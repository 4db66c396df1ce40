"""Make all figures that the documentation shows: run every benchmark, then write tables and plot.

    chrt -f 10 python benchmarks/record.py [--rounds 15] [WORD …]

Takes some minutes on a machine that does nothing else. With words, only the comparisons whose file names contain one of
them are made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from recorded import (
    ACCURACY,
    BFLOAT16_WORKS,
    CHOICES,
    COLD_START,
    INTEGER_WORKS,
    KERNELS,
    MEMORY,
    NODES,
    RESULTS,
    ROOT,
    WORKS,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    def chosen(file: Path) -> bool:
        return not options.words or any(word in file.name for word in options.words)

    RESULTS.mkdir(exist_ok=True)
    for work in filter(lambda work: chosen(work.file), (*WORKS, *INTEGER_WORKS, *BFLOAT16_WORKS)):
        arguments = [f"--{name}={value}" for name, value in work._asdict().items()]
        peak = ["--peak"] if work in INTEGER_WORKS else []
        run("peers.py", *arguments, *peak, f"--rounds={options.rounds}", f"--json={work.file}")
    if chosen(NODES):
        run("nodes.py", f"--json={NODES}")
    if chosen(KERNELS):
        run("kernels.py", "--task=classify", f"--json={KERNELS}")
    if chosen(COLD_START):
        run("cold_start.py", f"--json={COLD_START}")
    if chosen(MEMORY):
        run("memory.py", f"--json={MEMORY}")
    if chosen(ACCURACY):
        run("accuracy.py", f"--json={ACCURACY}")
    if chosen(CHOICES):
        run("choices.py", "--again")
    run("plot.py")
    for page in ("README.md", "docs/performance.md", "docs/numerics.md"):
        run("table.py", "--update", str(ROOT / page))


def run(script: str, *arguments: str) -> None:
    """Run a script of this folder in a process of its own, so that none inherits another's threads or CPUs."""
    subprocess.run([sys.executable, Path(__file__).parent / script, *arguments], check=True)


if __name__ == "__main__":
    main()
