"""Compare npmnv2 with other runtimes: same network, weights, images, threads and CPUs, in turn in one process.

    python benchmarks/peers.py --batch 1 --threads 1 [--model 1.0_224] [--task classify] [--json OUT]

All outputs are compared first; only then are the runtimes timed, for several rounds in rotating order.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time

import harness
import network as networks
import numpy as np
from runtimes.adapters import PEERS

OURS = ("npmnv2", "npmnv2-numpy")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="images per inference")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="1.0_224", help="depth multiplier _ image size")
    parser.add_argument("--task", choices=("classify", "segment"), default="classify")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="per runtime and round")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), help="which runtimes")
    parser.add_argument("--json", help="file to write the figures to")
    return parser.parse_args()


def make_network(task: str, model: str) -> networks.Network:
    multiplier, size = model.split("_")
    build = networks.classification if task == "classify" else networks.segmentation
    return build(float(multiplier), int(size))


def prepare(args: argparse.Namespace, network: networks.Network) -> dict[str, object]:
    """Set every runtime up; one that is not installed is left out with a message."""
    weights = networks.random_weights(network)
    images = np.random.default_rng(1).uniform(-1, 1, (args.batch, *network.input_shape)).astype(np.float32)
    ready = {}
    for name in args.only:
        if name == "openvino-streams" and (args.threads == 1 or args.batch % 2):
            continue
        try:
            ready[name] = PEERS[name](network, weights, images, args.threads)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return ready


def check(ready: dict[str, object]) -> dict[str, float]:
    """Return the largest difference of each runtime's output from the first one's, relative to its spread."""
    outputs = {name: runtime.logits(runtime.run()).astype(np.float64) for name, runtime in ready.items()}
    reference = next(iter(outputs.values()))
    errors = {}
    for name, output in outputs.items():
        if output.shape != reference.shape:
            raise SystemExit(f"{name} returns shape {output.shape}, the others {reference.shape}")
        errors[name] = float(np.abs(output - reference).max() / reference.std())
        if not errors[name] < 1e-3:
            raise SystemExit(f"{name} disagrees: its output is off by {errors[name]:.1e} standard deviations")
    return errors


def main() -> None:
    args = arguments()
    cpus = harness.pin(args.threads)
    network = make_network(args.task, args.model)
    ready = prepare(args, network)
    errors = check(ready)
    figures = harness.rounds(
        {name: runtime.run for name, runtime in ready.items()}, args.rounds, args.seconds
    )
    report(args, network, cpus, figures, errors)


def report(args, network, cpus, figures, errors) -> None:
    base = OURS[0] if OURS[0] in figures else min(figures, key=lambda name: statistics.median(figures[name]))
    rows, results = [], {}
    for name in sorted(figures, key=lambda name: statistics.median(figures[name])):
        per_image = statistics.median(figures[name]) / args.batch
        flops = 2 * network.multiply_adds() / per_image
        results[name] = {
            "ms_per_image": round(per_image * 1e3, 4),
            "ratio": round(harness.ratio(figures, name, base), 4),
            "gflops": round(flops / 1e9, 1),
            "max_error": errors[name],
            "rounds_ms": [round(s / args.batch * 1e3, 4) for s in figures[name]],
        }
        r = results[name]
        rows.append(
            [
                name,
                f"{r['ms_per_image']:.3f}",
                f"{r['ratio']:.2f}",
                f"{r['gflops']:.0f}",
                f"{errors[name]:.0e}",
            ]
        )
    print(
        f"{network.name}, batch {args.batch}, {args.threads} thread(s), {network.multiply_adds() / 1e6:.1f} M multiply-adds"
    )
    print(harness.table(["runtime", "ms/image", f"ratio to {base}", "GFLOP/s", "difference"], rows))


if __name__ == "__main__":
    main()
