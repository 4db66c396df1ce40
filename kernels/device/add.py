"""Sums of two maps, and copies of channels: what joins maps together."""

from __future__ import annotations

import functools
from typing import Any

from ..host.target import Target
from .addressing import address, share
from .jit import njit
from .simd import copy_bytes, emitted


@functools.cache
def make_run_add(target: Target) -> Any:
    """Return the function that adds two maps of one layout."""
    vector = target.map_vector_bytes

    @emitted(target)
    def add(emit, a, b, output):
        emit.store_map(emit.builder.fadd(emit.load_map(a), emit.load_map(b)), output)

    @njit(cached=False, variant=target.name)
    def run_add(step, bases, worker, workers):
        source, other, output = (
            address(bases, step.input.ref),
            address(bases, step.residual),
            address(bases, step.output.ref),
        )
        first, last = share(step.input.height * step.input.width * step.product.vectors, worker, workers)
        for offset in range(first * vector, last * vector, vector):
            add(source + offset, other + offset, output + offset)

    return run_add


@njit(cached=False)
def run_copy(step, bases, worker, workers):
    """Copy channels from pixels of one stride to pixels of another: concatenation, and results for the caller."""
    first, last = share(step.input.height * step.input.width, worker, workers)
    source, output = address(bases, step.input.ref), address(bases, step.output.ref)
    size = step.input.channels * step.input.channel_bytes
    for pixel in range(first, last):
        copy_bytes(output + pixel * step.output.pixel_stride, source + pixel * step.input.pixel_stride, size)
