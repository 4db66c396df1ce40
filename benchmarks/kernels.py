"""Time every kernel on the shapes that the networks give it, and compare with the core's peak of multiply-adds.

    python benchmarks/kernels.py [--backend compiled] [--threads 1] [--batch 1] [--kernel depthwise] [--json FILE]

Each row is a network of one layer, timed inside the backend; the time of a step that has nothing to do, which is what
calling it from Python costs, is subtracted. Blocks are timed twice: part by part, and as the one fused step that the
Numba backend makes of them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness


class Case(NamedTuple):
    """A layer and the shapes of the maps that it takes."""

    kernel: str
    layer: Any
    input_shapes: tuple[tuple[int, ...], ...]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("compiled", "numpy"), default="compiled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--model", default="1.0_224", help="depth multiplier and image size")
    parser.add_argument("--task", choices=("classify", "segment"), help="one of the networks")
    parser.add_argument("--kernel", help="one of the kernels")
    parser.add_argument("--seconds", type=float, default=0.1, help="per row")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def cases(model: str, tasks: tuple[str, ...]) -> Iterator[Case]:
    """Every kernel of the registry with every shape that it meets, once, in the order of the networks."""
    from network import network

    from npmnv2.network.layers import AveragePool, InvertedResidual

    multiplier = model.split("_")[0]
    for net in (network(task, model if task == "classify" else f"{multiplier}_513") for task in tasks):
        for step in net.steps:
            yield Case(kernel_of(step.layer), step.layer, step.input_shapes)
        shapes = net.plan.shapes(net.size, net.size)
        for node in net.plan.nodes:
            if isinstance(node.layer, InvertedResidual):
                yield Case("block", node.layer, tuple(shapes[name] for name in node.inputs))
    yield Case("average_pool", AveragePool(7), ((7, 7, 1280),))  # in the original graphs, instead of a global one


def kernel_of(layer: Any) -> str:
    """Name in the registry of the kernel that runs a layer."""
    from npmnv2.network import layers

    if isinstance(layer, layers.Conv):
        return "pointwise" if layer.kernel == layer.stride == 1 else "conv"
    names = {
        layers.Depthwise: "depthwise",
        layers.Add: "add",
        layers.Concat: "concat",
        layers.AveragePool: "average_pool",
        layers.GlobalAveragePool: "global_average_pool",
        layers.Dense: "dense",
        layers.ResizeLike: "resize_bilinear",
    }
    return names[type(layer)]


def single(case: Case) -> Any:
    """A plan whose node "it" is the layer. Where that takes several maps, they are all made of the first."""
    from npmnv2.network.layers import GlobalAveragePool, ResizeLike
    from npmnv2.network.plan import IMAGE, Node, Plan

    inputs: tuple[str, ...] = (IMAGE,) * len(case.input_shapes)
    before = []
    if isinstance(case.layer, ResizeLike):  # the small map first, then the one whose size it gets
        before, inputs = [Node("small", GlobalAveragePool(keep_dims=True), (IMAGE,))], ("small", IMAGE)
    return Plan((*before, Node("it", case.layer, inputs)), channels=image_shape(case)[2])


def image_shape(case: Case) -> tuple[int, int, int]:
    """Size of the last map, channels of the first."""
    first, last = case.input_shapes[0], case.input_shapes[-1]
    return (*last[:2], first[2]) if len(last) == 3 else (1, 1, *last)


def measure(case: Case, options: argparse.Namespace, nothing: float) -> dict[str, Any]:
    """Time one case; return its figures. `nothing` is the time of a step that has nothing to do."""
    from npmnv2.network.layers import ResizeLike

    plan, shape = single(case), image_shape(case)
    taken = step_seconds(case, options) - nothing
    output = plan.shapes(*shape[:2])["it"]
    read = case.input_shapes[:1] if isinstance(case.layer, ResizeLike) else case.input_shapes
    numbers = options.batch * (sum(map(math.prod, read)) + math.prod(output))
    numbers += sum(map(math.prod, plan.parameter_shapes().values()))
    multiply_adds = options.batch * plan.multiply_adds(*shape[:2])
    return {
        "kernel": case.kernel,
        "input": " + ".join("×".join(map(str, shape)) for shape in read),
        "output": "×".join(map(str, output)),
        "details": details(case.layer),
        "us": round(taken * 1e6, 2),
        "gflops": round(2e-9 * multiply_adds / taken, 1),
        "gb_per_s": round(4e-9 * numbers / taken, 1),
    }


def step_seconds(case: Case, options: argparse.Namespace) -> float:
    """Time one case inside its backend. The least of all runs, since some steps are shorter than a call's jitter."""
    import numpy as np

    from npmnv2.backends.selection import get_backend
    from npmnv2.weights.checkpoint import fold_batch_norms

    plan, rng = single(case), np.random.default_rng(0)
    parameters = {
        name: rng.uniform(0.5, 1, shape).astype(np.float32) / math.prod(shape[:-1])
        for name, shape in plan.parameter_shapes().items()
    }
    executable = get_backend(options.backend).compile(plan, fold_batch_norms(plan, parameters), options.threads)
    x = rng.uniform(-1, 1, (options.batch, *image_shape(case))).astype(np.float32)
    seconds: list[float] = []
    end = time.perf_counter() + options.seconds
    while len(seconds) < 2 or time.perf_counter() < end:
        seconds.append(sum(t.seconds for t in executable.profile(x, ["it"]) if t.name == "it"))
    return min(seconds[1:])


def details(layer: Any) -> str:
    stride, dilation = getattr(layer, "stride", 1), getattr(layer, "dilation", 1)
    return " ".join([f"stride {stride}"] * (stride > 1) + [f"dilation {dilation}"] * (dilation > 1))


HEADER = ("kernel", "input", "output", "", "µs", "GFLOP/s", "of peak", "GB/s")


def cells(row: dict[str, Any]) -> list[str]:
    numbers = f"{row['us']:.1f}", f"{row['gflops']:.0f}", f"{row['of_peak']:.0%}", f"{row['gb_per_s']:.0f}"
    return [row["kernel"], row["input"], row["output"], row["details"], *numbers]


def main() -> None:
    options = arguments()
    harness.pin(options.threads)
    import peak

    from npmnv2.kernels import REGISTRY
    from npmnv2.network.layers import Add

    best = peak.measure() / 1e9
    tasks = (options.task,) if options.task else ("classify", "segment")
    chosen = dict.fromkeys(c for c in cases(options.model, tasks) if options.kernel in (None, c.kernel))
    nothing = step_seconds(Case("add", Add(), ((1, 1, 1),) * 2), options)
    rows = [measure(case, options, nothing) for case in chosen]
    for row in rows:
        row["of_peak"] = round(row["gflops"] / best / options.threads, 3)
    print(f"{options.backend}, threads {options.threads}, batch {options.batch}; peak of one core {best:.0f} GFLOP/s\n")
    print(harness.table(HEADER, [cells(row) for row in sorted(rows, key=lambda row: row["kernel"])]))
    missing = sorted(set(REGISTRY) - {row["kernel"] for row in rows})
    if not options.kernel:
        print(f"\nNot in these networks: {', '.join(missing)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"peak_gflops": round(best, 1), "machine": harness.machine(), "rows": rows}
        options.json.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
