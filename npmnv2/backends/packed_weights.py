"""The folded weights of a plan in one block of memory, in the order in which the kernels read them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from npmnv2.backends.fusion import find_broadcast_concat, operations_of
from npmnv2.backends.partition import has_functions_inside, is_compiled
from npmnv2.kernels import Array, Clip
from npmnv2.kernels.host.build import Builder, Packed
from npmnv2.kernels.host.memory import Bytes, Constants
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import FLOAT_BYTES, Target
from npmnv2.network.activations import activation
from npmnv2.network.layers import AnyLayer, Conv, Depthwise
from npmnv2.network.plan import IMAGE, Node, Part, Plan, parts_of

Weights = Mapping[str, Array]


class PackedWeights:
    """Packed weights by the name of their node.

    Attributes
    ----------
    build : Builder
        Makes the steps that read them, for the same target.
    block : bytes
        All weights, each aligned to a cache line.
    exact : collection of str
        Values that keep the caller's kind of numbers where maps hold shorter ones.
    """

    exact: Collection[str] = ()

    def __init__(self, plan: Plan, weights: Weights, target: Target, processor: Processor | None = None) -> None:
        # Padding to whole vectors adds to thin layers, never as much again to a network.
        numbers = sum(math.prod(shape) for shape in plan.parameter_shapes().values())
        constants = Constants(2 * numbers * FLOAT_BYTES)
        self.build = self._builder(target, processor)
        self._packed: dict[str, Packed] = {}
        self._split: dict[str, tuple[Packed, Packed]] = {}
        for part in plan.parts():
            if self._covers(part) and f"{part.name}/kernel" in weights:
                parameters = weights[f"{part.name}/kernel"], weights[f"{part.name}/bias"]
                self._packed[part.name] = self._pack(constants, part, *parameters)
        operations = operations_of(plan.nodes)
        producers = {operation.output: operation for operation in operations}
        for operation in operations:
            found = find_broadcast_concat(operation, producers, target)
            if found and operation.output in self._packed:
                channels = len(weights[f"{found.pixel}/bias"])
                self._split[operation.output] = self._pack_split(constants, weights, operation.output, channels)
        self.block: Bytes = constants.block()

    def _builder(self, target: Target, processor: Processor | None) -> Builder:
        return Builder(target, processor)

    def _pack(self, constants: Constants, part: Part, kernel: Array, bias: Array) -> Packed:
        build, clip = self.build, _clip(part.layer)
        if isinstance(part.layer, Depthwise):
            return build.pack_filters(constants, kernel, bias, clip)
        pack = build.pack_image_product if part.inputs == (IMAGE,) else build.pack_product
        return pack(constants, kernel, bias, clip)

    def _covers(self, part: Part) -> bool:
        return is_compiled(part.layer)

    def covers(self, node: Node) -> bool:
        """Whether kernels cover a node, but for a function after it."""
        return all(self._covers(part) for part in parts_of(node))

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
