"""Where the time of one inference goes, node by node, as the Numba backend runs it.

python benchmarks/nodes.py [--model 1.0_224] [--task classify] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import harness


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="1.0_224", help="depth multiplier and image size")
    parser.add_argument("--task", choices=("classify", "segment"), default="classify")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    harness.pin(options.threads)
    import numpy as np
    import peak
    from network import network

    from npmnv2.backends.selection import get_backend
    from npmnv2.results.profile import Profile, Timing
    from npmnv2.weights.checkpoint import fold_batch_norms

    best = peak.measure() / 1e9 * options.threads
    net = network(options.task, options.model)
    executable = get_backend("compiled").compile(
        net.plan, fold_batch_norms(net.plan, net.random_weights()), options.threads
    )
    x = np.random.default_rng(0).uniform(-1, 1, (1, *net.input_shape)).astype(np.float32)
    output = net.plan.nodes[-1].name
    whole = harness.median_seconds(lambda: executable(x, [output]), 0.5)
    runs = [executable.profile(x, [output]) for _ in range(options.runs)]
    middle = Profile(
        Timing(timings[0].name, statistics.median(t.seconds for t in timings), timings[0].multiply_adds)
        for timings in zip(*runs)
    )
    speed = 2e-9 * net.multiply_adds() / whole
    print(f"{middle}\n\nin one call: {whole * 1e3:.3f} ms, {speed:.0f} GFLOP/s, {speed / best:.0%} of the peak")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "model": options.model,
            "peak_gflops": round(best, 1),
            "ms_in_one_call": round(whole * 1e3, 4),
            "gflops": round(speed, 1),
            "nodes": [
                {"name": t.name, "us": round(t.seconds * 1e6, 1), "multiply_adds": t.multiply_adds} for t in middle
            ],
        }
        options.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
