"""The second pass of lowering for integers: as `emission`, but for what rounds in a way of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from npmnv2.backends.emission import EMITTERS, Emitter, Storage, Value
from npmnv2.backends.fusion import BroadcastConcatConv, Operation
from npmnv2.kernels import Integers
from npmnv2.kernels.host.build import Step, TensorView
from npmnv2.network.layers import Add, AveragePool, GlobalAveragePool, ResizeLike


class ByteEmitter(Emitter):
    """Collects the instructions of a subgraph on bytes."""

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

    source = emit.resident(operation.inputs[0])
    if table is None:
        emit.add(resize, source, to=emit.new(operation.output))
        return
    result = emit.new(operation.output)
    one_pixel = source.shape[:2] == (1, 1)
    # A single pixel is the same everywhere, so it is looked up once.
    between = Value(f"{operation.output}/between", source.shape if one_pixel else result.shape, Storage.ARENA)
    look_up = _look_up(emit, table)
    first, second = (look_up, resize) if one_pixel else (resize, look_up)
    emit.add(first, source, to=between)
    emit.add(second, between, to=result)


def _look_up(emit: ByteEmitter, table: Integers) -> Callable[[TensorView, TensorView], Step]:
    def make(source: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.lookup(source, output, table)
        return step

    return make


def _broadcast_concat_conv(emit: ByteEmitter, operation: Operation, _: BroadcastConcatConv) -> None:
    for_pixel, for_map = emit.weights.split(operation.output)
    pixel, other = (emit.resident(name) for name in operation.inputs)
    broadcast = operation.names[0]
    table = emit.weights.table(broadcast)
    if table is not None:
        found = Value(broadcast, pixel.shape, Storage.ARENA)
        emit.add(_look_up(emit, table), pixel, to=found)
        pixel = found
    # They take the place of a bias.
    sums = Value(f"{operation.output}/sums", (1, 1, emit.build.sums_bytes(for_pixel.channels)), Storage.ARENA)

    def start(pixel: TensorView, sums: TensorView) -> Step:
        step: Step = emit.build.sums(pixel, sums, for_pixel)
        return step

    def finish(other: TensorView, sums: TensorView, output: TensorView) -> Step:
        step: Step = emit.build.pointwise(other, output, for_map._replace(bias=sums.ref))
        return step

    emit.add(start, pixel, to=sums)
    emit.add(finish, other, sums, to=emit.new(operation.output))


_TABLE: dict[type, Callable[..., None]] = {
    **EMITTERS,
    Add: _add,
    AveragePool: _pool,
    GlobalAveragePool: _pool,
    ResizeLike: _resize_like,
    BroadcastConcatConv: _broadcast_concat_conv,
}
