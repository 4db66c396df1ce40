"""Integers with compiled kernels: what `compiled` is for floats, bit for bit the results of NumPy's reference."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from npmnv2.backends.byte_emission import ByteEmitter
from npmnv2.backends.compiled import CompiledExecutable
from npmnv2.backends.emission import Emitter
from npmnv2.backends.integers import IntegerExecutable
from npmnv2.backends.interface import Weights
from npmnv2.backends.packed_integers import PackedIntegers
from npmnv2.forks import renew_in_children
from npmnv2.kernels import Arithmetic, Array, Integers, TensorQuantization, quantized
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.bound_program import BoundProgram, Workspace
from npmnv2.kernels.host.build import Program
from npmnv2.kernels.host.engine import Engine
from npmnv2.kernels.host.integer_build import ByteBuilder
from npmnv2.kernels.host.memory import aligned, round_up
from npmnv2.kernels.host.target import IntegerTarget
from npmnv2.network.plan import IMAGE, Node, Plan, parts_of
from npmnv2.network.quantization import ArgMax, Quantization, Resize, Step
from npmnv2.results.profile import Timing

# An array, which NumPy need not make of a number in every call.
_SIGN = np.array(128, np.uint8)


def as_bytes(q: Integers) -> NDArray[np.uint8]:
    """Integers as the kernels hold them: those of int8 move up by 128."""
    raw: NDArray[np.uint8] = np.ascontiguousarray(q).view(np.uint8)
    return raw if q.dtype == np.uint8 else raw ^ _SIGN


def from_bytes(x: NDArray[np.uint8], dtype: str) -> Integers:
    """The integers that bytes stand for."""
    return x if dtype == "uint8" else (x ^ _SIGN).view(np.int8)


# Stands for a table that changes no byte.
_UNCHANGED = np.arange(256, dtype=np.uint8)


@functools.lru_cache(maxsize=16)
def _requantize_table(
    source: TensorQuantization, output: TensorQuantization, arithmetic: Arithmetic
) -> NDArray[np.uint8] | None:
    """What each byte becomes, where that does not depend on its place in a map."""
    table = quantized.requantize_table(source, output, arithmetic)
    return _UNCHANGED if table is not None and np.array_equal(table, _UNCHANGED) else table


class CompiledIntegerExecutable(IntegerExecutable):
    """Run a plan in integers with compiled kernels, and with NumPy what they do not cover."""

    def __init__(
        self, plan: Plan, weights: Weights, quantization: Quantization, n_threads: int, engine: Engine
    ) -> None:
        assert isinstance(engine.target, IntegerTarget)
        packed = PackedIntegers(plan, weights, quantization, engine.target, engine.processor)
        kept = {part.name for node in plan.nodes if not packed.covers(node) for part in parts_of(node)}
        rest = {name: array for name, array in weights.items() if name.rpartition("/")[0] in kept}
        super().__init__(plan, rest, quantization, engine.target.arithmetic)
        self.n_threads = n_threads
        kernels: Any = packed  # has what programs need of `PackedWeights`
        fallback = _OnNumpy(IntegerExecutable(plan, rest, quantization, self.arithmetic))
        self._compiled = _CompiledBytes(plan, kernels, fallback, n_threads, engine)
        self._image = ImageQuantizer(quantization.values[IMAGE], n_threads, engine)
        self._masks = MaskMaker(n_threads, engine)

    def integers(self, q: Any, outputs: Sequence[str]) -> dict[str, Integers]:
        """Run on the integers of an image (N, H, W, C), and return integers."""
        found: dict[str, Any] = self._compiled(q, outputs)
        return {name: from_bytes(x, self._value(name).dtype) for name, x in found.items()}

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and tell what every node took."""
        return self._compiled.profile(self._quantized_image(x), outputs)

    def _requantize(self, x: Integers, source: TensorQuantization, output: TensorQuantization) -> Integers:
        if source == output:
            return x
        table = _requantize_table(source, output, self.arithmetic)
        if table is None:
            return super()._requantize(x, source, output)
        if table is _UNCHANGED and source.dtype == output.dtype:
            return x
        return from_bytes(as_bytes(x) if table is _UNCHANGED else table[as_bytes(x)], output.dtype)

    def _follow(self, steps: Sequence[Step], value: Any, meaning: TensorQuantization) -> Any:
        if self.arithmetic != "xnnpack":
            return super()._follow(steps, value, meaning)
        # A resize to the size that a map has changes nothing.
        while steps and isinstance(steps[0], Resize) and steps[0].size == value.shape[1:3]:
            steps = steps[1:]
        if len(steps) > 1 and isinstance(steps[0], Resize) and isinstance(steps[1], ArgMax):
            mask = self._masks(as_bytes(value), steps[0]).astype(steps[1].dtype, copy=False)
            return super()._follow(steps[2:], mask, meaning)
        return super()._follow(steps, value, meaning)

    def _quantized_image(self, x: Array) -> Any:
        return self._image(x) if self._image.covers(x) else super()._quantized_image(x)


class _CompiledBytes(CompiledExecutable):
    emitter: ClassVar[type[Emitter]] = ByteEmitter
    _moved: NDArray[np.uint8] = np.empty(0, np.uint8)

    def _image(self, x: Any) -> Any:
        """Images as kernels read them; memory for a single one is kept, since new memory costs more than to fill it."""
        if x.dtype == np.uint8 or len(x) != 1:
            return as_bytes(x)
        if self._moved.shape != x.shape:
            self._moved = np.empty(x.shape, np.uint8)
        return np.bitwise_xor(np.ascontiguousarray(x).view(np.uint8), _SIGN, out=self._moved)


class _OnNumpy:
    """Computes nodes that kernels do not cover, on bytes.

    Parameters
    ----------
    executable : IntegerExecutable
    """

    def __init__(self, executable: IntegerExecutable) -> None:
        self._executable = executable

    def evaluate(self, node: Node, *inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The value of one node."""
        values = self._executable.values
        typed = [from_bytes(x, values[name].dtype) for name, x in zip(node.inputs, inputs)]
        return as_bytes(self._executable.evaluate(node, *typed))


class _OwnProgram:
    """A program beside the network's, for the last shape that it was called with.

    Parameters
    ----------
    n_threads : int
    engine : Engine
    """

    def __init__(self, n_threads: int, engine: Engine) -> None:
        assert isinstance(engine.target, IntegerTarget)
        self._engine, self._build = engine, ByteBuilder(engine.target)
        self._workspace = Workspace(n_threads)
        self._known: tuple[object, BoundProgram] | None = None
        self._lock = threading.Lock()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """A forked child may have copied the lock while a thread of its parent held it."""
        self._lock = threading.Lock()

    def _run(self, key: object, make: Callable[[], Program], x: Array, out: NDArray[Any]) -> None:
        """Run the program for a key on one array, and make it first if it is another than last time."""
        if not len(x):
            return
        with self._lock:
            if self._known is None or self._known[0] != key:
                self._known = key, BoundProgram(make(), aligned(0), self._workspace, self._engine)
            self._known[1]([np.ascontiguousarray(x)], [out])


class ImageQuantizer(_OwnProgram):
    """Makes integers of the real numbers of an image.

    Parameters
    ----------
    quantization : TensorQuantization
        Of the image.
    n_threads : int
    engine : Engine
    """

    def __init__(self, quantization: TensorQuantization, n_threads: int, engine: Engine) -> None:
        super().__init__(n_threads, engine)
        self._quantization = quantization

    def covers(self, x: Array) -> bool:
        """Whether every image fills a vector, which kernels need."""
        return x.dtype == np.float32 and x.ndim == 4 and len(x) > 0 and x[0].size >= self._build.target.lanes

    def __call__(self, x: Array) -> Integers:
        """The integers of images (N, H, W, C)."""
        out = np.empty(x.shape, np.uint8)
        self._run(x.shape[1:], lambda: self._program(x.shape[1:]), x, out)
        return from_bytes(out, self._quantization.dtype)

    def _program(self, shape: tuple[int, ...]) -> Program:
        source, output = (self._build.external(steps.ref(steps.EXTERNAL + i, 0), *shape) for i in range(2))
        return self._build.assemble([self._build.quantize(source, output, self._quantization)], [])


class MaskMaker(_OwnProgram):
    """Resizes a map of scores as XNNPACK does, and tells the largest channel of every pixel."""

    def __call__(self, x: NDArray[np.uint8], resize: Resize) -> NDArray[np.int64]:
        """Masks (N, height, width) of maps of bytes (N, H, W, C)."""
        out = np.empty((len(x), *resize.size), np.int64)
        self._run((x.shape[1:], resize), lambda: self._program(x.shape[1:], resize), x, out)  # type: ignore[arg-type]
        return out

    def _program(self, shape: tuple[int, ...], resize: Resize) -> Program:
        build, channels = self._build, shape[2]
        outside, mask = (
            build.external(steps.ref(steps.EXTERNAL + i, 0), *size, channels)
            for i, size in enumerate((shape[:2], resize.size))
        )
        inside = build.resident(steps.ref(steps.ARENA, 0), *shape)
        start = round_up(inside.size)
        scores = build.resident(steps.ref(steps.ARENA, start), *resize.size, channels)
        body = [
            build.copy(outside, inside), build.resize(inside, scores, resize.variant), build.argmax(scores, mask),
        ]  # fmt: skip
        return build.assemble(body, [], start + scores.size)
