"""A network as a Keras model, and that model as a TFLite flatbuffer."""

from __future__ import annotations

import tempfile

import numpy as np
import tensorflow as tf
from network import Network, Step


def _same(size: int, step: Step, kernel: int) -> tuple[int, int]:
    out = -(-size // step.stride)
    total = max((out - 1) * step.stride + (kernel - 1) * step.dilation + 1 - size, 0)
    return total // 2, total - total // 2


class _Layers:
    """Builds one tensor per step."""

    def __init__(self, network: Network, weights: dict[str, np.ndarray], batch: int) -> None:
        self.network, self.weights = network, weights
        self.input = tf.keras.Input(network.input_shape, batch_size=batch)
        self.tensors = {"input": self.input}

    def conv(self, step: Step) -> tf.Tensor:
        x, layers = self.tensors[step.inputs[0]], tf.keras.layers
        height, width, _ = self.network.shape_of(step.inputs[0])
        same = (_same(height, step, step.kernel[0]), _same(width, step, step.kernel[1]))
        if step.padding != same:
            x = layers.ZeroPadding2D(step.padding)(x)
        options = {
            "kernel_size": step.kernel,
            "strides": step.stride,
            "dilation_rate": step.dilation,
            "padding": "same" if step.padding == same else "valid",
            "name": step.name,
        }
        kernel, bias = self.weights[f"{step.name}/kernel"], self.weights[f"{step.name}/bias"]
        if step.op == "depthwise":
            layer, kernel = layers.DepthwiseConv2D(**options), kernel[..., None]
        else:
            layer = layers.Conv2D(step.shape[2], **options)
            kernel = kernel.reshape(*step.kernel, *kernel.shape[-2:])
        y = layer(x)
        layer.set_weights([kernel, bias])
        if step.clip[0] == -np.inf:
            return y
        return layers.ReLU(max_value=None if step.clip[1] == np.inf else step.clip[1])(y)

    depthwise = conv

    def add(self, step: Step) -> tf.Tensor:
        return tf.keras.layers.Add()([self.tensors[name] for name in step.inputs])

    def mean(self, step: Step) -> tf.Tensor:
        return tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(self.tensors[step.inputs[0]])

    def dense(self, step: Step) -> tf.Tensor:
        layer = tf.keras.layers.Dense(step.shape[2])
        y = layer(tf.keras.layers.Flatten()(self.tensors[step.inputs[0]]))
        layer.set_weights([self.weights[f"{step.name}/kernel"], self.weights[f"{step.name}/bias"]])
        return y

    def broadcast(self, step: Step) -> tf.Tensor:
        return tf.keras.layers.UpSampling2D(step.shape[:2])(self.tensors[step.inputs[0]])

    def concat(self, step: Step) -> tf.Tensor:
        return tf.keras.layers.Concatenate()([self.tensors[name] for name in step.inputs])


def build(network: Network, weights: dict[str, np.ndarray], batch: int) -> tf.keras.Model:
    """Return a Keras model with static shapes; batch norm is folded into its convolutions."""
    layers = _Layers(network, weights, batch)
    for step in network.steps:
        layers.tensors[step.name] = getattr(layers, step.op)(step)
    return tf.keras.Model(layers.input, layers.tensors[network.output])


def to_tflite(model: tf.keras.Model) -> bytes:
    """Return the float32 flatbuffer of a Keras model."""
    with tempfile.TemporaryDirectory() as folder:
        signature = [tf.TensorSpec(model.input_shape, tf.float32)]
        model.export(folder, verbose=False, input_signature=signature)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
