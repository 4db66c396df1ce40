"""A network as an ONNX graph: batch norm folded, padding inside the convolutions, static shapes."""

from __future__ import annotations

import numpy as np
import onnx
from network import Network, Step
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class _Graph:
    def __init__(self, network: Network, weights: dict[str, np.ndarray], batch: int) -> None:
        self.network, self.weights, self.batch = network, weights, batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))

    def conv(self, step: Step) -> None:
        kernel = self.weights[f"{step.name}/kernel"]
        if step.op == "depthwise":
            kernel = kernel.transpose(2, 0, 1)[:, None]
        else:
            kernel = kernel.reshape(*step.kernel, *kernel.shape[-2:]).transpose(3, 2, 0, 1)
        low, high = step.clip
        clipped = low > -np.inf
        (top, bottom), (left, right) = step.padding
        self.node(
            "Conv",
            [
                step.inputs[0],
                self.constant(f"{step.name}/kernel", kernel),
                self.constant(f"{step.name}/bias", self.weights[f"{step.name}/bias"]),
            ],
            f"{step.name}/linear" if clipped else step.name,
            kernel_shape=list(step.kernel),
            strides=[step.stride] * 2,
            dilations=[step.dilation] * 2,
            pads=[top, left, bottom, right],
            group=step.shape[2] if step.op == "depthwise" else 1,
        )
        if clipped and high == np.inf:
            self.node("Relu", [f"{step.name}/linear"], step.name)
        elif clipped:
            limits = [
                self.constant(f"{step.name}/{end}", np.float32(v))
                for end, v in (("low", low), ("high", high))
            ]
            self.node("Clip", [f"{step.name}/linear", *limits], step.name)

    depthwise = conv

    def add(self, step: Step) -> None:
        self.node("Add", list(step.inputs), step.name)

    def mean(self, step: Step) -> None:
        self.node("GlobalAveragePool", list(step.inputs), step.name)

    def dense(self, step: Step) -> None:
        self.node("Flatten", list(step.inputs), f"{step.name}/flat", axis=1)
        kernel, bias = (
            self.constant(f"{step.name}/{v}", self.weights[f"{step.name}/{v}"]) for v in ("kernel", "bias")
        )
        self.node("Gemm", [f"{step.name}/flat", kernel, bias], step.name)

    def broadcast(self, step: Step) -> None:
        height, width, channels = step.shape
        shape = np.array([self.batch, channels, height, width])
        self.node("Expand", [step.inputs[0], self.constant(f"{step.name}/shape", shape)], step.name)

    def concat(self, step: Step) -> None:
        self.node("Concat", list(step.inputs), step.name, axis=1)


def build(network: Network, weights: dict[str, np.ndarray], batch: int) -> bytes:
    """Return the serialized model; input (batch, 3, height, width), output (batch, classes[, height, width])."""
    graph = _Graph(network, weights, batch)
    for step in network.steps:
        getattr(graph, step.op)(step)
    height, width, channels = network.input_shape
    out_height, out_width, classes = network.steps[-1].shape
    flat = network.steps[-1].op == "dense"
    out_shape = [batch, classes] if flat else [batch, classes, out_height, out_width]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            network.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, channels, height, width])],
            [helper.make_tensor_value_info(network.output, TensorProto.FLOAT, out_shape)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
