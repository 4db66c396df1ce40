"""TF-slim's MobileNetV2 in TensorFlow 1's graphs, for tests of what TensorFlow writes."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from npmnv2.weights_tools.names import slim_name, slim_scope
from weight_files import slim_variables

from npmnv2.network.layers import Add, ConcatRows, Conv, Dense, Depthwise
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights.assemble import plan_for

tf = pytest.importorskip("tensorflow")
json_format = pytest.importorskip("google.protobuf.json_format")
tf1 = tf.compat.v1


def tensorflow_graph(checkpoint, size, *, frozen):
    """A TF-slim MobileNetV2 in TensorFlow 1: the graph, its input, its logits, and a saver for its variables."""
    weights, detection = slim_variables(checkpoint), checkpoint.task == "detection"
    graph = tf.Graph()

    def value(name):
        if frozen:
            return tf1.identity(tf1.constant(weights[name], name=name), name=f"{name}/read")
        return tf1.get_variable(name, initializer=weights[name], use_resource=False)

    with graph.as_default():
        results = {"image": tf1.placeholder(tf.float32, (1, size, size, 3), name="input")}
        for part in plan_for(checkpoint.config, checkpoint.weights).parts():
            layer, x = part.layer, results[part.inputs[0]]
            if isinstance(layer, Add):
                x = x + results[part.inputs[1]]
            elif isinstance(layer, Conv | Depthwise):
                kernel = value(slim_name(part.name, "kernel", detection))
                depthwise, scope = isinstance(layer, Depthwise), slim_scope(part.name, detection)
                name = f"{scope}/{'depthwise' if depthwise else 'Conv2D'}"
                convolve = tf1.nn.depthwise_conv2d if depthwise else tf1.nn.conv2d
                # depthwise_conv2d opens a scope of this name and repeats it, as slim's own graphs do.
                x = convolve(x, kernel, strides=[1, layer.stride, layer.stride, 1], padding="SAME", name=name)
                if layer.norm is None:
                    results[part.name] = tf1.nn.bias_add(
                        x, value(slim_name(part.name, "bias", detection)), name=f"{scope}/BiasAdd"
                    )
                    continue
                norm = [value(slim_name(part.name, role, detection)) for role in BATCH_NORM_VARIABLES]
                name = f"{scope}/BatchNorm/FusedBatchNorm"
                x = tf1.nn.fused_batch_norm(x, *norm, epsilon=layer.norm, is_training=False, name=name)[0]
                x = x if layer.activation == "linear" else tf.nn.relu6(x)
            elif isinstance(layer, Dense):
                kernel, bias = value(slim_name(part.name, "kernel")), value(slim_name(part.name, "bias"))
                x = tf1.nn.conv2d(x, kernel, padding="VALID", name=f"{slim_scope(part.name)}/Conv2D")
                x = tf1.squeeze(tf1.nn.bias_add(x, bias, name=f"{slim_scope(part.name)}/BiasAdd"), [1, 2])
            elif isinstance(layer, ConcatRows):
                tables = [tf.reshape(results[name], (1, -1, layer.columns)) for name in part.inputs]
                x = tf.concat(tables, 1, name=part.name)
            else:
                x = tf.reduce_mean(x, [1, 2], keepdims=True)
            results[part.name] = x
            results[part.name.rpartition("_")[0]] = x
        return graph, results["image"], x


def tfjs_graph_def(folder):
    """The GraphDef of a TensorFlow.js graph model with float weights, its constants filled in."""
    model = json.loads((folder / "model.json").read_text())
    values = {}
    for group in model["weightsManifest"]:
        data, position = b"".join((folder / path).read_bytes() for path in group["paths"]), 0
        for weight in group["weights"]:
            dtype, count = np.dtype(weight["dtype"]), math.prod(weight["shape"])
            values[weight["name"]] = np.frombuffer(data, dtype, count, position).reshape(weight["shape"])
            position += count * dtype.itemsize
    nodes = model["modelTopology"]["node"]
    for each in nodes:
        if each["op"] == "Const":
            del each["attr"]["value"]
    graph = json_format.ParseDict({"node": [_with_texts(each) for each in nodes]}, tf1.GraphDef())
    for each in graph.node:
        if each.op == "Const":
            each.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[each.name]))
    return graph


def _with_texts(value, key=""):
    """JSON of a node in which texts that older files list as codes of bytes are in base64."""
    if isinstance(value, list):
        return [_with_texts(each) for each in value]
    if not isinstance(value, dict):
        return value
    # Inside a list the same word means a list of texts.
    return {
        name: base64.b64encode(bytes(each)).decode()
        if name == "s" and isinstance(each, list) and key != "list"
        else _with_texts(each, name)
        for name, each in value.items()
    }
