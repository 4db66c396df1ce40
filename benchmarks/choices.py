"""Measure what each choice of the tiling model is worth: vary it, on every instruction set of this machine.

    python benchmarks/choices.py [--again] [WORD …]

Every variant of a work must give the same bits, and is timed in turn with the model's choice. Works are written down as
soon as they are done; run again, this goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import harness
import numpy as np
import recorded
from network import network
from npmnv2.kernels.host import tiling
from npmnv2.kernels.host.engine import Engine, find_engine, find_integer_engine
from npmnv2.kernels.host.processor import Processor, this_processor
from recorded import CHOICES, Work
from runtimes.integers import Integers

from npmnv2.backends import emission
from npmnv2.backends.compiled import CompiledBackend
from npmnv2.backends.integers import QuantizedBackend

KIB = 1024
FLOAT_WORKS = (
    Work("1.0_224", 1, 1), Work("1.0_224", 32, 1), Work("1.0_224", 1, 2), Work("0.35_96", 1, 1), Work("0.35_96", 1, 2),
    Work("1.0_513", 1, 1, "segment"), Work("1.0_513", 1, 2, "segment"), Work("1.0_300", 1, 1, "detect"),
)  # fmt: skip
INTEGER_WORKS = (
    Work("1.0_224", 1, 1, numbers="int8"), Work("1.0_224", 1, 2, numbers="int8"), Work("0.35_96", 1, 1, numbers="int8"),
    Work("1.0_513", 1, 1, "segment", "uint8"),
)  # fmt: skip
FLOAT_SETS, INTEGER_SETS = ("avx512", "avx2", "neon"), ("avx512vnni", "avx2", "neondot", "neon")
# The model's choice, three times: where an executable's memory happens to lie is worth a percent or two.
COPIES = ("the model", "the model, again", "the model, a third time")


class Variant(NamedTuple):
    """A constant of a module with another value, or other caches for the model to believe in."""

    name: str
    module: Any = None
    constant: str = ""
    factor: float = 1.0
    processor: Processor | None = None


def variants(threads: int) -> Iterator[Variant]:
    """The model's choice, and what differs from it in one number."""
    yield Variant(COPIES[0])
    constants = [(tiling, name) for name in ("RING_OF_L2", "STRIP_OF_L2", "MISS", "START")]
    for module, constant in [*constants, *([(emission, "FETCH")] if threads > 1 else [])]:
        for word, factor in (("half", 0.5), ("double", 2.0)):
            yield Variant(f"{constant}, {word}", module, constant, factor)
    yield Variant(COPIES[1])
    l1 = this_processor().l1_bytes
    for size in (64, 4096):
        yield Variant(f"second level of {size} KB", processor=Processor(l1, size * KIB))
    yield Variant(COPIES[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="for each variant in a round")
    parser.add_argument("--again", action="store_true", help="measure what is there anew")
    options = parser.parse_args()
    cpus = os.sched_getaffinity(0)
    done = recorded.read(CHOICES)["works"] if CHOICES.exists() else {}
    for name, (engine, work) in chosen(options.words).items():
        if name in done and not options.again:
            continue
        os.sched_setaffinity(0, cpus)
        harness.pin(work.threads)
        done[name] = measure(engine, work, options.rounds, options.seconds)
        about = {"date": str(datetime.date.today()), "machine": harness.machine(), "model": model()}
        save({**about, "works": done})
        worst = min(done[name]["ratios"].items(), key=lambda item: item[1])
        print(f"{name}: {done[name]['ms']:.2f} ms; at best {worst[1]:.3f} ({worst[0]})", flush=True)


def save(figures: dict[str, Any]) -> None:
    """Write the figures, whole or not at all."""
    new = CHOICES.with_suffix(".new")
    new.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    new.replace(CHOICES)


def chosen(words: Iterable[str]) -> dict[str, tuple[Engine, Work]]:
    """Engines and works by name, of which a word is a part."""
    words = tuple(words)
    found = {}
    for works, sets, find in (
        (FLOAT_WORKS, FLOAT_SETS, find_engine),
        (INTEGER_WORKS, INTEGER_SETS, lambda name: find_integer_engine("xnnpack", name)),
    ):
        for engine in (engine for name in sets if (engine := find(name))):
            found |= {f"{engine.name}, {work}": (engine, work) for work in works}
    return {name: pair for name, pair in found.items() if not words or any(word in name for word in words)}


def model() -> dict[str, float]:
    """The constants and the caches that figures were measured with."""
    caches = this_processor()
    constants = {name: float(getattr(tiling, name)) for name in ("RING_OF_L2", "STRIP_OF_L2", "MISS", "START")}
    return {**constants, "FETCH": emission.FETCH, "l1_bytes": caches.l1_bytes, "l2_bytes": caches.l2_bytes}


def measure(engine: Engine, work: Work, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds per image of the model's choice, and the ratios of all variants to it."""
    compile_with = compiler(work)
    calls = {variant.name: varied(variant, engine, compile_with) for variant in variants(work.threads)}
    expected = digest(calls[COPIES[0]]())
    for name, call in calls.items():
        if digest(call()) != expected:
            raise SystemExit(f"{work}: {name} changes the result")
    figures = harness.rounds(calls, rounds, seconds, rest=0.0)
    model = [statistics.median(times) for times in zip(*(figures[name] for name in COPIES))]
    ratios = {name: round(harness.ratio(times, model), 3) for name, times in figures.items()}
    return {"ms": round(1e3 * statistics.median(model) / work.batch, 4), "ratios": ratios}


def varied(variant: Variant, engine: Engine, compile_with: Callable[[Engine], Callable[[], Any]]) -> Callable[[], Any]:
    """A call that runs as a variant wants it; it is lowered while the variant's constant is set."""
    with ExitStack() as stack:
        if variant.module:
            value = variant.factor * getattr(variant.module, variant.constant)
            stack.enter_context(patch.object(variant.module, variant.constant, value))
        call = compile_with(engine._replace(processor=variant.processor or engine.processor))
        call()
    return call


def compiler(work: Work) -> Callable[[Engine], Callable[[], Any]]:
    """What makes a call of a work's network for an engine."""
    net = network(work.task, work.model)
    images = np.random.default_rng(0).uniform(-1, 1, (work.batch, *net.input_shape)).astype(np.float32)
    weights, outputs = net.random_weights(), net.outputs
    if work.numbers == "float32":

        def floats(engine: Engine) -> Callable[[], Any]:
            executable = CompiledBackend(engine).compile(net.plan, weights, work.threads)
            return lambda: executable(images, outputs)

        return floats
    integers = Integers(net, weights, images, work.numbers)

    def bytes_of(engine: Engine) -> Callable[[], Any]:
        backend = QuantizedBackend(integers.quantization, "xnnpack", engine)
        executable: Any = backend.compile(net.plan, integers.weights, work.threads)
        return lambda: {"output": executable.invoke(integers.images)}

    return bytes_of


def digest(values: Mapping[str, np.ndarray]) -> bytes:
    """All bytes of the outputs."""
    return b"".join(np.ascontiguousarray(value).tobytes() for value in values.values())


if __name__ == "__main__":
    main()
