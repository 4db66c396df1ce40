"""The operations of `npmnv2.kernels` on arrays, with the same names and arguments: each is a program of one step.

For tests and benchmarks, and to try a kernel by hand; a network runs as one program instead
(`npmnv2.backends.lowering`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npmnv2.kernels import NO_CLIP, Array, Clip, Geometry, Variant, output_size

from . import build, steps
from .build import Map, Step
from .memory import Constants, Heap
from .run import BoundProgram, Workspace

Shape = tuple[int, int, int]


def conv(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP, n_threads: int = 1) -> Array:
    """Convolve an image with a bank of filters, without dilation; see `npmnv2.kernels.conv`."""
    weights, size = Constants(), len(kernel)
    packed = build.pack_product(weights, kernel, bias, clip)
    shape = (*_size(x, size, geometry), kernel.shape[-1])
    return _run([x], shape, lambda i, o, _: build.conv(i[0], o, packed, size, geometry), weights, n_threads)


def pointwise(x: Array, kernel: Array, bias: Array, clip: Clip = NO_CLIP, n_threads: int = 1) -> Array:
    """Mix the channels of every pixel; see `npmnv2.kernels.pointwise`."""
    weights = Constants()
    packed = build.pack_product(weights, kernel, bias, clip)
    shape = (*x.shape[1:3], kernel.shape[-1])
    return _run([x], shape, lambda i, o, _: build.pointwise(i[0], o, packed), weights, n_threads)


def depthwise(
    x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP, n_threads: int = 1
) -> Array:
    """Filter every channel on its own, by 3×3 windows; see `npmnv2.kernels.depthwise`."""
    weights = Constants()
    packed = build.pack_filters(weights, kernel, bias, clip)
    shape = (*_size(x, 3, geometry), x.shape[-1])
    return _run(
        [x],
        shape,
        lambda i, o, _: build.depthwise(i[0], o, build.wide_copy(i[0]), packed, geometry),
        weights,
        n_threads,
    )


def add(x: Array, y: Array, n_threads: int = 1) -> Array:
    """Add two maps; see `npmnv2.kernels.add`."""
    return _run([x, y], x.shape[1:], lambda i, o, _: build.add(i[0], i[1], o), Constants(), n_threads)


def average_pool(x: Array, window: int, stride: int = 1, n_threads: int = 1) -> Array:
    """Average over squares inside the map; see `npmnv2.kernels.average_pool`."""
    height, width = ((size - window) // stride + 1 for size in x.shape[1:3])
    shape = (height, width, x.shape[-1])
    return _run([x], shape, lambda i, o, _: build.pool(i[0], o, (window, window), stride), Constants(), n_threads)


def global_average_pool(x: Array, n_threads: int = 1) -> Array:
    """Average over all pixels: (N, H, W, C) → (N, C)."""
    shape = (1, 1, x.shape[-1])
    size = (x.shape[1], x.shape[2])
    return _run([x], shape, lambda i, o, _: build.pool(i[0], o, size), Constants(), n_threads)[:, 0, 0]


def dense(x: Array, kernel: Array, bias: Array, n_threads: int = 1) -> Array:
    """The classifier: (N, C) × (C, K) + (K,) → (N, K)."""
    weights = Constants()
    packed = build.pack_product(weights, kernel, bias)
    pixels = x[:, None, None]
    return _run([pixels], (1, 1, len(bias)), lambda i, o, _: build.dense(i[0], o, packed), weights, n_threads)[:, 0, 0]


def resize_bilinear(x: Array, size: tuple[int, int], variant: Variant, n_threads: int = 1) -> Array:
    """Resize maps; see `npmnv2.kernels.resize_bilinear`."""
    shape = (*size, x.shape[-1])
    return _run([x], shape, lambda i, o, tables: build.resize(i[0], o, variant, tables), Constants(), n_threads)


def concat(*maps: Array, n_threads: int = 1) -> Array:
    """Join maps along their channels."""
    height, width = maps[0].shape[1:3]
    out = np.empty((*maps[0].shape[:3], sum(x.shape[-1] for x in maps)), np.float32)
    target = build.external(steps.reference(steps.EXTERNAL + len(maps), 0), height, width, out.shape[-1])
    body = []
    for at, x in enumerate(maps):
        source = build.external(steps.reference(steps.EXTERNAL + at, 0), height, width, x.shape[-1])
        body.append(build.copy(source, target))
        target = target._replace(place=target.place + source.step)
    _call(body, 0, Constants(), Constants(), n_threads)([_floats(x) for x in maps], [out])
    return out


def _size(x: Array, kernel: int, geometry: Geometry) -> tuple[int, int]:
    height, width = (
        output_size(size, kernel, geometry.stride, geometry.dilation, padding)
        for size, padding in zip(x.shape[1:3], geometry.padding)
    )
    return height, width


def _floats(x: Array) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)


def _run(
    inputs: Sequence[Array],
    shape: tuple[int, ...],
    make: Callable[[list[Map], Map, Constants], Step],
    weights: Constants,
    n_threads: int,
) -> Array:
    """Run one step between copies into and out of the arena."""
    heap, tables = Heap(), Constants()

    def inside(height: int, width: int, channels: int) -> Map:
        there = build.resident(0, height, width, channels)
        return there._replace(place=steps.reference(steps.ARENA, heap.take(there.size)))

    out = np.empty((len(inputs[0]), *shape), np.float32)
    body, sources = [], []
    for at, x in enumerate(inputs):
        sources.append(inside(*x.shape[1:]))
        body.append(build.copy(build.external(steps.reference(steps.EXTERNAL + at, 0), *x.shape[1:]), sources[-1]))
    target = inside(*shape)
    body.append(make(sources, target, tables))
    body.append(build.copy(target, build.external(steps.reference(steps.EXTERNAL + len(inputs), 0), *shape)))
    _call(body, heap.size, weights, tables, n_threads)([_floats(x) for x in inputs], [out])
    return out


def _call(body: list[Step], arena_bytes: int, weights: Constants, tables: Constants, n_threads: int) -> BoundProgram:
    return BoundProgram(build.assemble(body, [], tables), arena_bytes, 0, weights.block(), Workspace(n_threads))
