"""Integers with compiled kernels: what `compiled` is for floats, bit for bit the results of NumPy's reference."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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
from npmnv2.kernels import Array, Integers, TensorQuantization
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.bound_program import BoundProgram, Workspace
from npmnv2.kernels.host.engine import Engine
from npmnv2.kernels.host.integer_build import ByteBuilder
from npmnv2.kernels.host.memory import aligned
from npmnv2.kernels.host.target import IntegerTarget
from npmnv2.network.plan import IMAGE, Node, Plan, parts_of
from npmnv2.network.quantization import Quantization
from npmnv2.results.profile import Timing

_SIGN = np.uint8(128)


def as_bytes(q: Integers) -> NDArray[np.uint8]:
    """Integers as the kernels hold them: those of int8 move up by 128."""
    raw: NDArray[np.uint8] = np.ascontiguousarray(q).view(np.uint8)
    return raw if q.dtype == np.uint8 else raw ^ _SIGN


def from_bytes(x: NDArray[np.uint8], dtype: str) -> Integers:
    """The integers that bytes stand for."""
    return x if dtype == "uint8" else (x ^ _SIGN).view(np.int8)


class CompiledIntegerExecutable(IntegerExecutable):
    """Run a plan in integers with compiled kernels, and with NumPy what they do not cover."""

    def __init__(
        self, plan: Plan, weights: Weights, quantization: Quantization, n_threads: int, engine: Engine
    ) -> None:
        assert isinstance(engine.target, IntegerTarget)
        packed = PackedIntegers(plan, weights, quantization, engine.target)
        kept = {part.name for node in plan.nodes if not packed.covers(node) for part in parts_of(node)}
        rest = {name: array for name, array in weights.items() if name.rpartition("/")[0] in kept}
        super().__init__(plan, rest, quantization, engine.target.arithmetic)
        self.n_threads = n_threads
        kernels: Any = packed  # has what programs need of `PackedWeights`
        fallback = _OnNumpy(IntegerExecutable(plan, rest, quantization, self.arithmetic))
        self._compiled = _CompiledBytes(plan, kernels, fallback, n_threads, engine)
        self._image = ImageQuantizer(quantization.values[IMAGE], n_threads, engine)

    def integers(self, q: Any, outputs: Sequence[str]) -> dict[str, Integers]:
        """Run on the integers of an image (N, H, W, C), and return integers."""
        found: dict[str, Any] = self._compiled(as_bytes(q), outputs)  # type: ignore[arg-type]
        return {name: from_bytes(x, self.values[self.plan.resolve(name)].dtype) for name, x in found.items()}

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and tell what every node took."""
        return self._compiled.profile(as_bytes(self._quantized_image(x)), outputs)  # type: ignore[arg-type]

    def _quantized_image(self, x: Array) -> Any:
        return self._image(x) if self._image.covers(x) else super()._quantized_image(x)


class _CompiledBytes(CompiledExecutable):
    emitter: ClassVar[type[Emitter]] = ByteEmitter


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


class ImageQuantizer:
    """Makes integers of the real numbers of an image.

    Parameters
    ----------
    quantization : TensorQuantization
        Of the image.
    n_threads : int
    engine : Engine
    """

    def __init__(self, quantization: TensorQuantization, n_threads: int, engine: Engine) -> None:
        assert isinstance(engine.target, IntegerTarget)
        self._quantization, self._engine = quantization, engine
        self._build = ByteBuilder(engine.target)
        self._workspace = Workspace(n_threads)
        self._known: tuple[tuple[int, ...], BoundProgram] | None = None
        self._lock = threading.Lock()
        renew_in_children(self)

    def covers(self, x: Array) -> bool:
        """Whether every image fills a vector, which kernels need."""
        return x.dtype == np.float32 and x.ndim == 4 and len(x) > 0 and x[0].size >= self._build.target.lanes

    def __call__(self, x: Array) -> Integers:
        """The integers of images (N, H, W, C)."""
        out = np.empty(x.shape, np.uint8)
        with self._lock:
            self._program(x.shape[1:])([np.ascontiguousarray(x)], [out])
        return from_bytes(out, self._quantization.dtype)

    def renew_after_fork(self) -> None:
        """A forked child may have copied the lock while a thread of its parent held it."""
        self._lock = threading.Lock()

    def _program(self, shape: tuple[int, ...]) -> BoundProgram:
        if self._known is None or self._known[0] != shape:
            source, output = (self._build.external(steps.ref(steps.EXTERNAL + i, 0), *shape) for i in range(2))
            program = self._build.assemble([self._build.quantize(source, output, self._quantization)], [])
            self._known = shape, BoundProgram(program, aligned(0), self._workspace, self._engine)
        return self._known[1]
