"""TF-slim's MobileNetV2 in TensorFlow 1's graphs, for tests of what TensorFlow writes."""

from __future__ import annotations

import pytest
from npmnv2.weights_tools.names import slim_name, slim_scope
from weight_files import slim_variables

from npmnv2.network.layers import Add, Conv, Dense, Depthwise
from npmnv2.weights.assemble import plan_for

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1


def tensorflow_graph(checkpoint, size, *, frozen):
    """A TF-slim MobileNetV2 in TensorFlow 1: the graph, its input, its logits, and a saver for its variables."""
    weights = slim_variables(checkpoint)
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
                kernel = value(slim_name(part.name, "kernel"))
                depthwise = isinstance(layer, Depthwise)
                name = f"{slim_scope(part.name)}/{'depthwise' if depthwise else 'Conv2D'}"
                convolve = tf1.nn.depthwise_conv2d if depthwise else tf1.nn.conv2d
                # depthwise_conv2d opens a scope of this name and repeats it, as slim's own graphs do.
                x = convolve(x, kernel, strides=[1, layer.stride, layer.stride, 1], padding="SAME", name=name)
                norm = [
                    value(slim_name(part.name, role)) for role in ("gamma", "beta", "moving_mean", "moving_variance")
                ]
                name = f"{slim_scope(part.name)}/BatchNorm/FusedBatchNorm"
                x = tf1.nn.fused_batch_norm(x, *norm, epsilon=layer.norm, is_training=False, name=name)[0]
                x = x if layer.activation == "linear" else tf.nn.relu6(x)
            elif isinstance(layer, Dense):
                kernel, bias = value(slim_name(part.name, "kernel")), value(slim_name(part.name, "bias"))
                x = tf1.nn.conv2d(x, kernel, padding="VALID", name=f"{slim_scope(part.name)}/Conv2D")
                x = tf1.squeeze(tf1.nn.bias_add(x, bias, name=f"{slim_scope(part.name)}/BiasAdd"), [1, 2])
            else:
                x = tf.reduce_mean(x, [1, 2], keepdims=True)
            results[part.name] = x
            results[part.name.rpartition("_")[0]] = x
        return graph, results["image"], x
