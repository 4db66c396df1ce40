"""The integer weights of a plan in one block of memory, and what else its steps on bytes are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npmnv2.backends.fusion import BroadcastConcat, find_broadcast_concat, operations_of
from npmnv2.kernels import Integers, TensorQuantization, quantized
from npmnv2.kernels.host import integer_packing as packing
from npmnv2.kernels.host.integer_build import ByteBuilder, PackedBytes, Pooling
from npmnv2.kernels.host.memory import Bytes, Constants
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import IntegerTarget
from npmnv2.network.layers import Add, AveragePool, Concat, Conv, Dense, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import Node, Part, Plan, parts_of
from npmnv2.network.quantization import Quantization, value_parts


class PackedIntegers:
    """Packed layers by the name of their part.

    Parameters
    ----------
    plan : Plan
    weights : mapping of str to integers
        In the layouts of the NumPy kernels.
    quantization : Quantization
    target : IntegerTarget
    processor : Processor, optional

    Attributes
    ----------
    build : ByteBuilder
        Makes the steps that read them, for the same target.
    block : bytes
        All weights, each aligned to a cache line.
    exact : tuple
        Nothing: all values are bytes.
    """

    exact = ()

    def __init__(
        self, plan: Plan, weights: Mapping[str, Any], quantization: Quantization, target: IntegerTarget,
        processor: Processor | None = None,
    ) -> None:  # fmt: skip
        numbers = sum(math.prod(shape) for shape in plan.parameter_shapes().values())
        self._constants = Constants(2 * numbers)
        self._weights, self._quantization, self._target = weights, quantization, target
        self.build = ByteBuilder(target, processor)
        self._packed: dict[str, PackedBytes] = {}
        self._sums: dict[str, int] = {}
        self._pools: dict[str, Pooling] = {}
        self._tables: dict[str, Integers | None] = {}
        parts = {part.name: part for part in value_parts(plan)}
        sums = {part.inputs[0]: part for part in parts.values() if isinstance(part.layer, Add)}
        self._covered = {name for name, part in parts.items() if self._pack(part, sums.get(name))}
        operations = operations_of(plan.nodes)
        producers, self._split = {operation.output: operation for operation in operations}, {}
        for operation in operations:
            found = find_broadcast_concat(operation, producers, self.build.target)
            if found and operation.output in self._packed:
                self._split[operation.output] = self._pack_split(parts[operation.output], found)
        self.block: Bytes = self._constants.block()
        del self._weights

    def covers(self, node: Node) -> bool:
        """Whether kernels cover a node."""
        return all(part.name in self._covered for part in parts_of(node))

    def must_open(self, node: Node) -> bool:
        """Whether a block cannot run as one."""
        return not self.covers(node)

    def __getitem__(self, name: str) -> PackedBytes:
        return self._packed[name]

    def split(self, name: str) -> tuple[PackedBytes, PackedBytes]:
        """Weights of a `BroadcastConcatConv`: for the pixel's channels, and for the other channels."""
        return self._split[name]

    def sum(self, name: str) -> int:
        """A ref to the numbers of an addition."""
        return self._sums[name]

    def pool(self, name: str) -> Pooling:
        """How a pool rounds."""
        return self._pools[name]

    def table(self, name: str) -> Integers | None:
        """What follows a resize: a table of 256 results, or nothing."""
        return self._tables[name]

    # What kernels cover

    def _pack(self, part: Part, following: Part | None) -> bool:
        """Pack a part, if kernels cover it; `following` is the addition that it is the first summand of."""
        layer = part.layer
        if isinstance(layer, Depthwise):
            return self._pack_filters(part) if layer.kernel == 3 else False
        if isinstance(layer, (Conv, Dense)):
            dense = isinstance(layer, Dense) or bool(layer.kernel == 1 or layer.dilation == 1)
            return self._pack_layer(part, following) if dense else False
        values = [self._quantization.values[name] for name in (*part.inputs, part.name)]
        if isinstance(layer, Add):
            return self._pack_sum(part.name, *values)
        if isinstance(layer, (AveragePool, GlobalAveragePool)):
            return self._pack_pool(part, *values)
        if isinstance(layer, ResizeLike):
            return self._pack_table(part.name, values[0], values[-1])
        return isinstance(layer, Concat)

    def _parameters(self, part: Part) -> tuple[Integers, Integers]:
        return self._weights[f"{part.name}/kernel"], self._weights[f"{part.name}/bias"]

    def _fits(self, part: Part) -> bool:
        """Whether the sums of a layer can be rescaled in 32 bits."""
        kernel, bias = self._parameters(part)
        found = self._quantization.of_layer(part)
        largest = quantized.largest_sum(kernel, *found[:2]) + int(np.abs(bias.astype(np.int64)).max())
        return bool(packing.fits(self._target, found, largest))

    def _pack_layer(self, part: Part, following: Part | None) -> bool:
        if not self._fits(part):
            return False
        values = self._quantization.values
        residual = (values[following.inputs[1]], values[following.name]) if following else ()
        found = self._quantization.of_layer(part)
        if residual and not packing.sum_fits(self._target, found[2], *residual):
            residual = ()
        self._packed[part.name] = self.build.pack_layer(self._constants, *self._parameters(part), found, residual)
        return True

    def _pack_split(self, part: Part, found: BroadcastConcat) -> tuple[PackedBytes, PackedBytes]:
        kernel, bias = self._parameters(part)
        channels = len(self._weights[f"{found.pixel}/bias"])
        split: tuple[PackedBytes, PackedBytes] = self.build.pack_split(
            self._constants, kernel, bias, self._quantization.of_layer(part), channels
        )
        return split

    def _pack_filters(self, part: Part) -> bool:
        kernel, bias = self._parameters(part)
        found = self._quantization.of_layer(part)
        if not (self._fits(part) and packing.filters_fit(kernel, found[1])):
            return False
        self._packed[part.name] = self.build.pack_byte_filters(self._constants, kernel, bias, found)
        return True

    def _pack_sum(self, name: str, a: TensorQuantization, b: TensorQuantization, total: TensorQuantization) -> bool:
        if not packing.sum_fits(self._target, a, b, total):
            return False
        self._sums[name] = self.build.pack_sum(self._constants, a, b, total)
        return True

    def _pack_pool(self, part: Part, source: TensorQuantization, output: TensorQuantization) -> bool:
        mean = isinstance(part.layer, GlobalAveragePool) and self._quantization.pooling == "mean"
        self._pools[part.name] = Pooling(source, output, mean)
        return True

    def _pack_table(self, name: str, source: TensorQuantization, output: TensorQuantization) -> bool:
        table = quantized.requantize_table(source, output, self._target.arithmetic)
        if self._target.arithmetic != "xnnpack" or table is None:
            return False
        same = np.array_equal(table, np.arange(256))
        self._tables[name] = None if same else table
        return True
