"""A network as an ONNX graph: batch norm folded, padding inside the convolutions, static shapes but for the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from network import IMAGE, Network, Step, Weights
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
BATCH = "batch"  # the name of the dimension that a runtime fixes when it loads the graph


class _Graph:
    """One method per kind of layer, called like its class."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))

    def parameters(self, step: Step, *kernel_axes: int) -> list[str]:
        kernel, bias = (self.weights[f"{step.name}/{variable}"] for variable in ("kernel", "bias"))
        if kernel_axes:
            kernel = kernel.transpose(kernel_axes)
        return [self.constant(f"{step.name}/kernel", kernel), self.constant(f"{step.name}/bias", bias)]

    def Conv(self, step: Step) -> None:
        self.window(step, self.parameters(step, 3, 2, 0, 1), groups=1)

    def Depthwise(self, step: Step) -> None:
        self.window(step, self.parameters(step, 2, 3, 0, 1), groups=step.shape[-1])

    def window(self, step: Step, parameters: list[str], groups: int) -> None:
        (top, bottom), (left, right) = step.padding
        linear = step.name if step.clip[0] == -math.inf else f"{step.name}/linear"
        self.node(
            "Conv",
            [step.inputs[0], *parameters],
            linear,
            kernel_shape=[step.layer.kernel] * 2,
            strides=[step.layer.stride] * 2,
            dilations=[step.layer.dilation] * 2,
            pads=[top, left, bottom, right],
            group=groups,
        )
        if step.clip == (0, math.inf):
            self.node("Relu", [linear], step.name)
        elif linear != step.name:
            limits = [self.constant(f"{step.name}/{i}", np.float32(limit)) for i, limit in enumerate(step.clip)]
            self.node("Clip", [linear, *limits], step.name)

    def Add(self, step: Step) -> None:
        self.node("Add", list(step.inputs), step.name)

    def Concat(self, step: Step) -> None:
        self.node("Concat", list(step.inputs), step.name, axis=1)

    def ConcatRows(self, step: Step) -> None:
        rows = [f"{step.name}/{name}" for name in step.inputs]
        shape = self.constant(f"{step.name}/shape", np.array([0, -1, step.layer.columns]))  # 0: as it is
        for name, row in zip(step.inputs, rows):
            self.node("Transpose", [name], f"{row}/last", perm=[0, 2, 3, 1])
            self.node("Reshape", [f"{row}/last", shape], row)
        self.node("Concat", rows, step.name, axis=1)

    def GlobalAveragePool(self, step: Step) -> None:
        pooled = step.name if step.layer.keep_dims else f"{step.name}/map"
        self.node("GlobalAveragePool", list(step.inputs), pooled)
        if pooled != step.name:
            self.node("Flatten", [pooled], step.name, axis=1)

    def Dense(self, step: Step) -> None:
        self.node("Gemm", [step.inputs[0], *self.parameters(step)], step.name)

    def ResizeLike(self, step: Step) -> None:
        if step.input_shapes[0][:2] != (1, 1):
            raise NotImplementedError(f"{step.name} resizes a map of more than one pixel")
        shape = np.array([1, step.shape[2], *step.shape[:2]])
        self.node("Expand", [step.inputs[0], self.constant(f"{step.name}/shape", shape)], step.name)


def value_info(name: str, shape: tuple[int, ...], batch: int | str) -> onnx.ValueInfoProto:
    """What the graph takes or gives: a map with its channels first, a table or a vector as it is."""
    dimensions = shape if len(shape) == 2 else (shape[-1], *shape[:-1])
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *dimensions])


def build(network: Network, weights: Weights, batch: int | str = BATCH) -> bytes:
    """Return the serialized model, channels first; its input is called "image"."""
    graph = _Graph(weights)
    for step in network.steps:
        getattr(graph, step.op)(step)
    shapes = {step.name: step.shape for step in network.steps}
    image = value_info(IMAGE, network.input_shape, batch)
    outputs = [value_info(name, shapes[name], batch) for name in network.outputs]
    model = helper.make_model(
        helper.make_graph(graph.nodes, network.name, [image], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # what opset 17 came with
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
