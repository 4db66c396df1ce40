"""``npmnv2 warmup`` and ``npmnv2 bench``: the kernels on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from npmnv2.cli.arguments import add_command, add_precision, add_threads, positive


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    command = add_command(commands, "warmup", warmup, ("warmup --precision bf16",))
    add_precision(command)
    add_threads(command)
    command = add_command(commands, "bench", bench, ("bench --batch 8 --threads 1",))
    command.add_argument("--batch", type=positive, default=1, metavar="N", help="images at once (default: 1)")
    add_threads(command)


def warmup(options: argparse.Namespace) -> int:
    """Compile the kernels ahead of the first prediction."""
    from npmnv2.lab.bench import warmup as compile_kernels

    print(compile_kernels(n_threads=options.threads, precision=options.precision))
    return 0


def bench(options: argparse.Namespace) -> int:
    """Time the network on this machine."""
    from npmnv2.lab.bench import bench as measure

    print(measure(batch=options.batch, n_threads=options.threads))
    return 0
