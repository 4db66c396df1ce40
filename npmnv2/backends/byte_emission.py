"""The second pass of lowering for integers: as `emission`, but for what rounds in a way of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from npmnv2.backends.emission import EMITTERS, Emitter, Storage, Value
from npmnv2.backends.fusion import Operation, Rule, fuse_stems
from npmnv2.kernels.host.build import Step, TensorView
from npmnv2.network.layers import Add, AveragePool, GlobalAveragePool, ResizeLike


class ByteEmitter(Emitter):
    """Collects the instructions of a subgraph on bytes."""

    rules: ClassVar[tuple[Rule, ...]] = (fuse_stems,)
    weights: Any
    build: Any

    def table(self) -> Mapping[type, Callable[..., None]]:
        """What emits each type of layer."""
        return _TABLE


def _add(emit: ByteEmitter, operation: Operation, _: Add) -> None:
    numbers = emit.weights.sum(operation.output)

    def make(source: TensorView, other: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.sum(source, other, output, numbers)
        return step

    one, other = (emit.resident(name) for name in operation.inputs)
    emit.add(make, one, other, to=emit.new(operation.output))


def _pool(emit: ByteEmitter, operation: Operation, layer: AveragePool | GlobalAveragePool) -> None:
    pooling = emit.weights.pool(operation.output)
    source = emit.resident(operation.inputs[0])
    fixed = isinstance(layer, AveragePool)
    window = (layer.window, layer.window) if isinstance(layer, AveragePool) else source.shape[:2]
    stride = layer.stride if isinstance(layer, AveragePool) else 1

    def make(source: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.mean(source, output, window, stride, pooling)
        return step

    # One vector per image is left of a global pool: what follows runs for all images at once.
    kept = fixed or getattr(layer, "keep_dims", False)
    emit.add(make, source, to=emit.new(operation.output, Storage.ARENA if kept else Storage.BATCH))


def _resize_like(emit: ByteEmitter, operation: Operation, layer: ResizeLike) -> None:
    table = emit.weights.table(operation.output)

    def resize(source: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.resize(source, output, layer.variant)
        return step

    def look_up(source: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.lookup(source, output, table)
        return step

    source = emit.resident(operation.inputs[0])
    if table is None:
        emit.add(resize, source, to=emit.new(operation.output))
        return
    result = emit.new(operation.output)
    one_pixel = source.shape[:2] == (1, 1)
    # A single pixel is the same everywhere, so it is looked up once.
    between = Value(f"{operation.output}/between", source.shape if one_pixel else result.shape, Storage.ARENA)
    first, second = (look_up, resize) if one_pixel else (resize, look_up)
    emit.add(first, source, to=between)
    emit.add(second, between, to=result)


_TABLE: dict[type, Callable[..., None]] = {
    **EMITTERS,
    Add: _add,
    AveragePool: _pool,
    GlobalAveragePool: _pool,
    ResizeLike: _resize_like,
}
