"""The folded weights of a plan in one block of memory, in the order in which the kernels read them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from npmnv2.backends.fusion import find_broadcast_concat, operations_of
from npmnv2.backends.partition import has_functions_inside, is_compiled
from npmnv2.kernels import Array, Clip
from npmnv2.kernels.host.build import Builder, Packed
from npmnv2.kernels.host.memory import Bytes, Constants
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import FLOAT_BYTES, Target
from npmnv2.network.activations import activation
from npmnv2.network.layers import AnyLayer, Conv, Depthwise
from npmnv2.network.plan import Node, Plan

Weights = Mapping[str, Array]


class PackedWeights:
    """Packed weights by the name of their node.

    Attributes
    ----------
    build : Builder
        Makes the steps that read them, for the same target.
    block : bytes
        All weights, each aligned to a cache line.
    """

    def __init__(self, plan: Plan, weights: Weights, target: Target, processor: Processor | None = None) -> None:
        # Padding to whole vectors adds to thin layers, never as much again to a network.
        numbers = sum(math.prod(shape) for shape in plan.parameter_shapes().values())
        constants = Constants(2 * numbers * FLOAT_BYTES)
        self.build = Builder(target, processor)
        self._packed: dict[str, Packed] = {}
        self._split: dict[str, tuple[Packed, Packed]] = {}
        for name, layer, _ in plan.parts():
            if is_compiled(layer) and f"{name}/kernel" in weights:
                pack = self.build.pack_filters if isinstance(layer, Depthwise) else self.build.pack_product
                self._packed[name] = pack(constants, weights[f"{name}/kernel"], weights[f"{name}/bias"], _clip(layer))
        operations = operations_of(plan.nodes)
        producers = {operation.output: operation for operation in operations}
        for operation in operations:
            found = find_broadcast_concat(operation, producers, target)
            if found and operation.output in self._packed:
                channels = len(weights[f"{found.pixel}/bias"])
                self._split[operation.output] = self._pack_split(constants, weights, operation.output, channels)
        self.block: Bytes = constants.block()

    def covers(self, node: Node) -> bool:
        """Whether kernels cover a node, but for a function after it."""
        return is_compiled(node.layer)

    def must_open(self, node: Node) -> bool:
        """Whether a block cannot run as one."""
        return has_functions_inside(node.layer)

    def _pack_split(self, constants: Constants, weights: Weights, name: str, channels: int) -> tuple[Packed, Packed]:
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        return (
            self.build.pack_product(constants, kernel[:channels], bias),
            self.build.pack_product(constants, kernel[channels:], bias, self._packed[name].clip),
        )

    def __getitem__(self, name: str) -> Packed:
        return self._packed[name]

    def split(self, name: str) -> tuple[Packed, Packed]:
        """Weights of a `BroadcastConcatConv`: for the pixel's channels, without a clip, and for the other channels."""
        return self._split[name]


def _clip(layer: AnyLayer) -> Clip:
    name = layer.activation if isinstance(layer, (Conv, Depthwise)) else "linear"
    return activation(name).clip
