"""The classifier for a single image: one row times a large matrix, limited by how fast the weights arrive."""

from __future__ import annotations

import functools
from typing import Any

from ..host.target import FLOAT_BYTES, Target
from .addressing import address, product_at, share
from .jit import njit
from .pointwise import ONE, THREE, TWO, make_run_pointwise, panel_vectors, panels
from .simd import INT64, Form, Loop, emitted

# Panels of weights that are read side by side: enough sums in flight to hide the latency of an FMA. The processor sees
# the straight lines by itself: asking for lines ahead of time made it slower (measured from memory: 92 against 107 µs).
STREAMS = 4


def make_row(target: Target, streams: int, vectors: int) -> Any:
    """Return a function that computes `streams` panels, each of so many vectors, for one pixel of `length` words.

    It is called as ``row(source, length, panel_bytes, product: Product, output)``, where `panel_bytes` is the size of
    one panel's weights.
    """

    @emitted(target, Form(target.map_bytes, FLOAT_BYTES))
    def row(emit, source, length, panel_bytes, product, output):
        builder = emit.builder
        stop = builder.add(source, builder.mul(length, INT64(FLOAT_BYTES)))
        starts = [builder.add(product.weights, builder.mul(panel_bytes, INT64(i))) for i in range(streams)]
        loop = Loop(builder, [source, INT64(0), *emit.load_all(product.bias, streams * vectors)])
        at, offset, *sums = loop.values
        value = emit.broadcast(at)
        weights = [each for start in starts for each in emit.load_all(builder.add(start, offset), vectors)]
        following = [emit.multiply_add(value, weight, total) for weight, total in zip(weights, sums)]
        at = builder.add(at, INT64(FLOAT_BYTES))
        offset = builder.add(offset, INT64(vectors * target.vector_bytes))
        loop.repeat(builder.icmp_signed("<", at, stop), [at, offset, *following])
        low, high = emit.splat(product.low), emit.splat(product.high)
        for i, total in enumerate(loop.values[2:]):
            emit.store(emit.clip(total, low, high), output, i)

    return row


@functools.cache
def make_run_dense(target: Target) -> Any:
    """Return the function that multiplies every image's features to floats; workers share the panels.

    Several images share the weights, a single one streams them.
    """
    by_one, by_two, by_three = (make_row(target, 1, kind) for kind in (ONE, TWO, THREE))
    many_by_two, run_pointwise, panel_bytes = (
        make_row(target, STREAMS, TWO),
        make_run_pointwise(target, Form(target.map_bytes, FLOAT_BYTES)),
        2 * target.vector_bytes,
    )
    word = target.word_channels

    @njit(cached=False, variant=target.name)
    def run_dense(step, bases, worker, workers):
        if step.input.height > 1:
            run_pointwise(step, bases, worker, workers)
            return
        product, length = step.product, step.input.channels // word
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        count = panels(product.vectors)
        panel, last = share(count, worker, workers)
        size = panel_bytes * length
        while panel < last:
            offset = panel * panel_bytes
            weights, to = product_at(product, bases, offset, length), output + offset
            # A last panel of one and a half vectors is laid out like one of two, and nobody reads what is beyond.
            vectors = panel_vectors(panel, product.vectors)
            # The last panel of all may be of another kind.
            if panel + STREAMS <= min(last, count - 1):
                many_by_two(source, length, size, weights, to)
                panel += STREAMS
                continue
            if vectors == TWO:
                by_two(source, length, size, weights, to)
            elif vectors == THREE:
                by_three(source, length, size, weights, to)
            else:
                by_one(source, length, size, weights, to)
            panel += 1

    return run_dense
