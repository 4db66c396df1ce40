"""Networks of real numbers as TFLite files: one operator for every part of the plan, batch norms folded.

The height and width of the image are fixed, the number of images is not: an interpreter resizes its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    ConcatRows,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import IMAGE, Part
from npmnv2.weights.checkpoint import Checkpoint

from .flatbuffer_writer import Scalar
from .graphs import Network, entry_of, network_of
from .tflite_graph import FUSED, Graph, convolution, explicit_padding, integer, pool, resize, stored_kernel
from .tflite_metadata import archive, entries

_FORMAT = "TFLite"


def float_tflite_bytes(checkpoint: Checkpoint, every_value: bool = False) -> bytes:
    """The bytes of a file that takes prepared images and returns what the plan ends in: logits, or features.

    With `every_value` of one that returns the result of every part.

    Raises
    ------
    WeightsError
        If the network has an activation or a layer that the format does not have.
    """
    network = network_of(checkpoint)
    writer = _Writer(network)
    first = writer.computed(IMAGE, network.shapes[IMAGE])
    for part in network.parts:
        entry_of(_LAYERS, type(part.layer), part, _FORMAT)(writer, part)
    names = [part.name for part in network.parts] if every_value else network.outputs
    outputs = [writer.values[name] for name in names]
    return writer.graph.file([first], outputs, entries(checkpoint, names)) + archive(checkpoint)


@dataclass
class _Writer:
    """The graph, and the tensor of every value so far."""

    network: Network
    graph: Graph = field(default_factory=Graph)
    values: dict[str, int] = field(default_factory=dict)

    def computed(self, name: str, shape: Shape) -> int:
        self.values[name] = self.graph.tensor(name, (1, *shape), "float32", any_batch=True)
        return self.values[name]

    def result(self, part: Part, kind: str, inputs: Sequence[int], options: Mapping[int, Any]) -> None:
        """Add the operator that makes a part's result."""
        self.graph.operator(kind, inputs, self.computed(part.name, self.network.shapes[part.name]), options)

    def inputs(self, part: Part) -> list[int]:
        return [self.values[name] for name in part.inputs]

    def shape(self, part: Part) -> Shape:
        """Shape of a part's first input."""
        return self.network.shapes[part.inputs[0]]

    def parameters(self, part: Part) -> list[int]:
        """Add kernel and bias; a vector's kernel is a matrix."""
        assert isinstance(part.layer, (Conv, Depthwise, Dense))
        kernel, bias = self.network.kernel_and_bias(part)
        stored = stored_kernel(part.layer, kernel)
        arrays = {"kernel": stored if len(self.shape(part)) == 3 else stored[:, 0, 0], "bias": bias}
        return [self.graph.tensor(f"{part.name}/{key}", a.shape, "float32", None, a) for key, a in arrays.items()]

    # --- one method a layer -------------------------------------------------------------------------------------------

    def convolution(self, part: Part) -> None:
        layer = part.layer
        assert isinstance(layer, (Conv, Depthwise))
        entry_of(FUSED, layer.activation, part, _FORMAT)
        (source,), padding = self.inputs(part), explicit_padding(layer, self.shape(part))
        if padding is not None:
            pads = self.graph.constant(f"{part.name}/pads", padding[0])
            source = self.graph.operator("PAD", [source, pads], self.computed(f"{part.name}/padded", padding[1]))
        kind, options = convolution(layer, str(layer.activation), is_padded=padding is not None)
        self.result(part, kind, [source, *self.parameters(part)], options)

    def dense(self, part: Part) -> None:
        assert isinstance(part.layer, Dense)
        kind, options = "FULLY_CONNECTED", {0: Scalar("<b", FUSED["linear"])}
        if len(self.shape(part)) == 3:
            kind, options = convolution(part.layer, "linear", is_padded=False)
        self.result(part, kind, [*self.inputs(part), *self.parameters(part)], options)

    def add(self, part: Part) -> None:
        self.result(part, "ADD", self.inputs(part), {0: Scalar("<b", FUSED["linear"])})

    def concat(self, part: Part) -> None:
        self.result(part, "CONCATENATION", self.inputs(part), {0: integer(3), 1: Scalar("<b", FUSED["linear"])})

    def concat_rows(self, part: Part) -> None:
        assert isinstance(part.layer, ConcatRows)
        columns, rows = part.layer.columns, []
        for number, name in enumerate(part.inputs):
            count = math.prod(self.network.shapes[name]) // columns
            shape = self.graph.constant(f"{part.name}/shape_{number}", [-1, count, columns])
            made = self.computed(f"{part.name}/rows_{number}", (count, columns))
            rows.append(self.graph.operator("RESHAPE", [self.values[name], shape], made))
        self.result(part, "CONCATENATION", rows, {0: integer(1), 1: Scalar("<b", FUSED["linear"])})

    def global_pool(self, part: Part) -> None:
        assert isinstance(part.layer, GlobalAveragePool)
        axes = self.graph.constant(f"{part.name}/axes", [1, 2])
        self.result(part, "MEAN", [*self.inputs(part), axes], {0: Scalar("<?", part.layer.keep_dims)})

    def average_pool(self, part: Part) -> None:
        layer = part.layer
        assert isinstance(layer, AveragePool)
        self.result(part, "AVERAGE_POOL_2D", self.inputs(part), pool(layer.window, layer.window, layer.stride))

    def resize_like(self, part: Part) -> None:
        assert isinstance(part.layer, ResizeLike)
        size = self.graph.constant(f"{part.name}/size", self.network.shapes[part.name][:2])
        self.result(part, "RESIZE_BILINEAR", [self.inputs(part)[0], size], resize(part.layer.variant))


_LAYERS: dict[type[Any], Callable[[_Writer, Part], None]] = {
    Conv: _Writer.convolution,
    Depthwise: _Writer.convolution,
    Dense: _Writer.dense,
    Add: _Writer.add,
    Concat: _Writer.concat,
    ConcatRows: _Writer.concat_rows,
    GlobalAveragePool: _Writer.global_pool,
    AveragePool: _Writer.average_pool,
    ResizeLike: _Writer.resize_like,
}
