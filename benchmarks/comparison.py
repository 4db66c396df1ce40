"""The comparison behind peers.py: set up, check that all agree, time in rounds, report."""

from __future__ import annotations

import datetime
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import harness
import numpy as np
from network import Network, network
from runtimes.adapters import FAST, ON_REQUEST, OURS, OURS_IN_FLOAT, PACKAGES, RUNTIMES, Runtime, Unsuitable

FLOAT32, BFLOAT16 = "float32", "bf16"
# Float32 sums of a thousand products, 53 layers deep, in different orders.
AGREEMENT = 1e-4
# Of 8-bit networks that different tools make of the same float32 weights, without a tool's own corrections; and of
# bfloat16, which rounds each of 53 layers by up to 2⁻⁸ of a value: a root mean square of √53 · 2⁻⁸ = 0.03, thrice.
LIMITS = {"uint8": 0.5, "int8": 0.5, BFLOAT16: 0.1}


def compare(
    work: tuple[str, str, int, int, str], names: Iterable[str], rounds: int, seconds: float, rest: float
) -> dict[str, Any]:
    """Return everything that was measured, as JSON takes it; `work` is task, model, batch, threads and numbers."""
    task, model, batch, threads, numbers = work
    net, wanted = network(task, model), set(names)
    images = np.random.default_rng(1).uniform(-1, 1, (batch, *net.input_shape)).astype(np.float32)
    judge = {OURS_IN_FLOAT} if wanted and numbers != FLOAT32 else set()
    runtimes = set_up(net, images, threads, wanted | judge, numbers)
    differences = check(runtimes) if numbers == FLOAT32 else check_coarse(runtimes, LIMITS[numbers])
    calls = {
        name: lambda run=runtime.run: net.finish(run())
        for name, runtime in runtimes.items()
        if not wanted or name in wanted
    }
    figures = harness.rounds(calls, rounds, seconds, rest)
    return {
        "task": task,
        "model": model,
        "batch": batch,
        "threads": threads,
        "numbers": numbers,
        "multiply_adds": net.multiply_adds(),
        "date": datetime.date.today().isoformat(),
        "machine": harness.machine(),
        "versions": harness.versions(PACKAGES),
        "results": {
            name: {
                "ms_per_image": round(statistics.median(times) / batch * 1e3, 4),
                "gflops": round(2e-9 * net.multiply_adds() * batch / statistics.median(times), 1),
                "difference": float(f"{differences[name]:.1e}"),
                "rounds_ms_per_image": [round(s / batch * 1e3, 4) for s in times],
            }
            for name, times in figures.items()
        },
    }


def peak_of(threads: int) -> float | None:
    """What the cores can do with bytes at best, in 10⁹ operations per second; None where that cannot be measured."""
    import peak

    one = peak.measure_bytes()
    return None if one is None else round(one / 1e9 * threads, 1)


def adapters(numbers: str) -> Mapping[str, Callable[..., Runtime]]:
    """The runtimes that there are for networks of such numbers."""
    if numbers == FLOAT32:
        return RUNTIMES
    if numbers == BFLOAT16:
        from runtimes import bfloat16

        return bfloat16.RUNTIMES
    from runtimes import integers

    return integers.runtimes(numbers)


def set_up(
    net: Network, images: np.ndarray, threads: int, names: Iterable[str], numbers: str = FLOAT32
) -> dict[str, Runtime]:
    """Return the runtimes that are installed and suited; say why the others are left out."""
    available = adapters(numbers)
    weights, wanted, ready = net.random_weights(), set(names) or set(available) - set(ON_REQUEST), {}
    for name, adapter in available.items():
        if name not in wanted:
            continue
        try:
            ready[name] = adapter(net, weights, images, threads)
        except (ImportError, Unsuitable) as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
    return ready


def check(runtimes: Mapping[str, Runtime]) -> dict[str, float]:
    """Return how far each output is from the median of all, in standard deviations of that; stop if one is far."""
    outputs = {name: runtime.logits(runtime.run()).astype(np.float64) for name, runtime in runtimes.items()}
    shapes = {name: output.shape for name, output in outputs.items()}
    if len(set(shapes.values())) != 1:
        raise SystemExit(f"the outputs' shapes differ: {shapes}")
    middle = np.median(list(outputs.values()), axis=0)
    differences = {name: float(np.abs(output - middle).max() / middle.std()) for name, output in outputs.items()}
    for name, difference in differences.items():
        if not difference < AGREEMENT:  # not a number, either
            raise SystemExit(f"{name} differs from the others by {difference:.1e} standard deviations")
    return differences


def check_coarse(runtimes: Mapping[str, Runtime], limit: float) -> dict[str, float]:
    """Return how far each output is from float32's, in standard deviations of that (root mean square).

    Our integers must be LiteRT's to the last bit; the others have integers of their own, and must be near.
    """
    outputs = {name: runtime.logits(runtime.run()).astype(np.float64) for name, runtime in runtimes.items()}
    exact = outputs[OURS_IN_FLOAT]
    if "litert" in outputs and OURS in outputs and not np.array_equal(outputs["litert"], outputs[OURS]):
        raise SystemExit(f"{np.count_nonzero(outputs['litert'] != outputs[OURS])} outputs differ from LiteRT's")
    differences = {name: float(np.sqrt(np.mean((x - exact) ** 2)) / exact.std()) for name, x in outputs.items()}
    for name, difference in differences.items():
        if not difference < limit:
            raise SystemExit(f"{name} differs from float32 by {difference:.2f} standard deviations")
    return differences


def report(measured: Mapping[str, Any]) -> str:
    """Return a table for people; fastest first."""
    results = measured["results"]
    fastest_first = sorted(results, key=lambda name: results[name]["ms_per_image"])
    base = OURS if OURS in results else fastest_first[0]
    title = (
        f"{measured['task']} {measured['model']}, {measured['numbers']}, batch {measured['batch']}, "
        f"threads {measured['threads']}: {measured['multiply_adds'] / 1e6:.1f} M multiply-adds per image"
    )
    rows = [
        [
            name,
            f"{results[name]['ms_per_image']:.3f}",
            f"{times_ours(results, name, base):.2f}",
            f"{results[name]['gflops']:.0f}",
            f"{results[name]['difference']:.0e}",
        ]
        for name in fastest_first
    ]
    table = harness.table(["runtime", "ms per image", f"× {base}", "GFLOP/s", "difference"], rows)
    return "\n".join([title, "", table, *conclusion(results)])


def conclusion(results: Mapping[str, Any]) -> list[str]:
    """Say how we compare to the best of the fast runtimes."""
    rivals = [name for name in results if name in FAST]
    if OURS not in results or not rivals:
        return []
    best = min(rivals, key=lambda name: results[name]["ms_per_image"])
    return ["", f"{OURS} needs {1 / times_ours(results, best, OURS):.2f} of the time of the best other, {best}"]


def times_ours(results: Mapping[str, Any], name: str, base: str = OURS) -> float:
    """Median over the rounds of one runtime's time divided by another's in the same round."""
    return harness.ratio(results[name]["rounds_ms_per_image"], results[base]["rounds_ms_per_image"])
