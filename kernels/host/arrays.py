"""The operations of `npmnv2.kernels` on arrays, with the same names and arguments: each is a program of one step.

For tests and benchmarks, and to try a kernel by hand; a network runs as one program instead
(`npmnv2.backends.lowering`). All of them take the number of threads, and the `Target` to make kernels for: that of
this processor if not given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npmnv2.kernels import NO_CLIP, Array, Clip, Geometry, Variant, output_size

from . import steps
from .bfloat16_build import Bfloat16Builder
from .bound_program import BoundProgram, Workspace
from .build import Builder, Step, TensorView
from .engine import Engine, find_engine
from .memory import ArenaPlanner, Constants
from .target import FLOAT_BYTES


def conv(
    x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP, n_threads: int = 1,
    engine: Engine | None = None,
) -> Array:  # fmt: skip
    """Convolve an image with a bank of filters, without dilation; see `npmnv2.kernels.conv`."""
    run, size = _Single(n_threads, engine), len(kernel)
    packed = run.build.pack_product(run.weights, kernel, bias, clip)
    shape = (*_size(x, size, geometry), kernel.shape[-1])
    return run([x], shape, lambda i, o: run.build.conv(i[0], o, packed, size, geometry))


def pointwise(
    x: Array, kernel: Array, bias: Array, clip: Clip = NO_CLIP, n_threads: int = 1, engine: Engine | None = None
) -> Array:
    """Mix the channels of every pixel; see `npmnv2.kernels.pointwise`."""
    run = _Single(n_threads, engine)
    packed = run.build.pack_product(run.weights, kernel, bias, clip)
    return run([x], (*x.shape[1:3], kernel.shape[-1]), lambda i, o: run.build.pointwise(i[0], o, packed))


def depthwise(
    x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP, n_threads: int = 1,
    engine: Engine | None = None,
) -> Array:  # fmt: skip
    """Filter every channel on its own, by 3×3 windows; see `npmnv2.kernels.depthwise`."""
    run = _Single(n_threads, engine)
    packed = run.build.pack_filters(run.weights, kernel, bias, clip)

    def step(inputs: list[TensorView], output: TensorView) -> Step:
        return run.build.depthwise(inputs[0], output, run.build.expanded_copy(inputs[0]), packed, geometry)

    return run([x], (*_size(x, 3, geometry), x.shape[-1]), step)


def add(x: Array, y: Array, n_threads: int = 1, engine: Engine | None = None) -> Array:
    """Add two maps; see `npmnv2.kernels.add`."""
    run = _Single(n_threads, engine)
    return run([x, y], x.shape[1:], lambda i, o: run.build.add(i[0], i[1], o))


def average_pool(x: Array, window: int, stride: int = 1, n_threads: int = 1, engine: Engine | None = None) -> Array:
    """Average over squares inside the map; see `npmnv2.kernels.average_pool`."""
    run = _Single(n_threads, engine)
    height, width = ((size - window) // stride + 1 for size in x.shape[1:3])
    return run([x], (height, width, x.shape[-1]), lambda i, o: run.build.pool(i[0], o, (window, window), stride))


def global_average_pool(x: Array, n_threads: int = 1, engine: Engine | None = None) -> Array:
    """Average over all pixels: (N, H, W, C) → (N, C)."""
    run, size = _Single(n_threads, engine), (x.shape[1], x.shape[2])
    return run([x], (1, 1, x.shape[-1]), lambda i, o: run.build.pool(i[0], o, size), exact=True)[:, 0, 0]


def dense(x: Array, kernel: Array, bias: Array, n_threads: int = 1, engine: Engine | None = None) -> Array:
    """The classifier: (N, C) × (C, K) + (K,) → (N, K)."""
    run = _Single(n_threads, engine)
    packed = run.build.pack_product(run.weights, kernel, bias)
    return run([x[:, None, None]], (1, 1, len(bias)), lambda i, o: run.build.dense(i[0], o, packed), exact=True)[
        :, 0, 0
    ]


def resize_bilinear(
    x: Array, size: tuple[int, int], variant: Variant, n_threads: int = 1, engine: Engine | None = None
) -> Array:
    """Resize maps; see `npmnv2.kernels.resize_bilinear`."""
    run = _Single(n_threads, engine)
    return run([x], (*size, x.shape[-1]), lambda i, o: run.build.resize(i[0], o, variant))


def concat(*maps: Array, n_threads: int = 1, engine: Engine | None = None) -> Array:
    """Join maps along their channels."""
    run = _Single(n_threads, engine)
    height, width = maps[0].shape[1:3]
    out = np.empty((*maps[0].shape[:3], sum(x.shape[-1] for x in maps)), np.float32)
    joined = run.build.external(steps.ref(steps.EXTERNAL + len(maps), 0), height, width, out.shape[-1])
    body = []
    for index, x in enumerate(maps):
        source = run.build.external(steps.ref(steps.EXTERNAL + index, 0), height, width, x.shape[-1])
        body.append(run.build.copy(source, joined))
        joined = joined._replace(ref=joined.ref + source.pixel_stride)
    run.call(body, maps, out)
    return out


class _Single:
    """Runs one step between copies into and out of the arena."""

    def __init__(self, n_threads: int, engine: Engine | None) -> None:
        found = engine or find_engine()
        assert found is not None, "needs the library or Numba"
        self._engine = found
        short = found.target.map_bytes < FLOAT_BYTES
        self.build = (Bfloat16Builder if short else Builder)(found.target, found.processor)
        self.weights = Constants()
        self._arena = ArenaPlanner()
        self._workspace = Workspace(n_threads)

    def __call__(
        self, inputs: Sequence[Array], shape: tuple[int, ...], make: Callable[[list[TensorView], TensorView], Step],
        exact: bool = False,
    ) -> Array:  # fmt: skip
        """Return the output, of a shape (H, W, C) per image, of the step that `make` makes from views.

        The output is as a layer inside a network has it, or as the last one has it if it is `exact`.
        """
        out = np.empty((len(inputs[0]), *shape), np.float32)
        body, sources = [], []
        for index, x in enumerate(inputs):
            sources.append(self._inside(*x.shape[1:]))
            outside = self.build.external(steps.ref(steps.EXTERNAL + index, 0), *x.shape[1:])
            body.append(self.build.copy(outside, sources[-1]))
        result = self._inside(*shape, exact=exact)
        body.append(make(sources, result))
        body.append(self.build.copy(result, self.build.external(steps.ref(steps.EXTERNAL + len(inputs), 0), *shape)))
        self.call(body, inputs, out)
        return out

    def call(self, body: list[Step], inputs: Sequence[Array], out: Array) -> None:
        """Run steps as a program."""
        program = self.build.assemble(body, [], self._arena.size)
        bound = BoundProgram(program, self.weights.block(), self._workspace, self._engine)
        bound([np.ascontiguousarray(x, np.float32) for x in inputs], [out])

    def _inside(self, height: int, width: int, channels: int, *, exact: bool = False) -> TensorView:
        view = self.build.resident(0, height, width, channels, exact)
        return view._replace(ref=steps.ref(steps.ARENA, self._arena.allocate(view.size)))


def _size(x: Array, kernel: int, geometry: Geometry) -> tuple[int, int]:
    height, width = (
        output_size(size, kernel, geometry.stride, geometry.dilation, padding)
        for size, padding in zip(x.shape[1:3], geometry.padding)
    )
    return height, width
