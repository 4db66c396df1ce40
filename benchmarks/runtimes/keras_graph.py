"""A network as a Keras model, and that model as a TFLite flatbuffer."""

from __future__ import annotations

import math
import tempfile

import tensorflow as tf
from network import IMAGE, Network, Step, Weights

from npmnv2.kernels import same_padding

layers = tf.keras.layers


class _Graph:
    """One method per kind of layer, called like its class; each returns the step's tensor."""

    def __init__(self, weights: Weights, image: tf.Tensor) -> None:
        self.weights = weights
        self.tensors = {IMAGE: image}

    def inputs(self, step: Step) -> list[tf.Tensor]:
        return [self.tensors[name] for name in step.inputs]

    def parametrized(self, layer: layers.Layer, step: Step, x: tf.Tensor) -> tf.Tensor:
        y = layer(x)
        layer.set_weights([self.weights[f"{step.name}/{variable}"] for variable in ("kernel", "bias")])
        return y

    def Conv(self, step: Step) -> tf.Tensor:
        return self.window(step, lambda **options: layers.Conv2D(step.shape[-1], **options))

    def Depthwise(self, step: Step) -> tf.Tensor:
        return self.window(step, layers.DepthwiseConv2D)

    def window(self, step: Step, make: type[layers.Layer]) -> tf.Tensor:
        (x,), layer = self.inputs(step), step.layer
        same = tuple(
            same_padding(size, layer.kernel, layer.stride, layer.dilation) for size in step.input_shapes[0][:2]
        )
        if step.padding != same:
            x = layers.ZeroPadding2D(step.padding)(x)
        made = make(
            kernel_size=layer.kernel,
            strides=layer.stride,
            dilation_rate=layer.dilation,
            padding="same" if step.padding == same else "valid",
            name=step.name,
        )
        y = self.parametrized(made, step, x)
        low, high = step.clip
        return y if low == -math.inf else layers.ReLU(max_value=None if high == math.inf else high)(y)

    def Add(self, step: Step) -> tf.Tensor:
        return layers.Add()(self.inputs(step))

    def Concat(self, step: Step) -> tf.Tensor:
        return layers.Concatenate()(self.inputs(step))

    def ConcatRows(self, step: Step) -> tf.Tensor:
        return layers.Concatenate(axis=1)([layers.Reshape((-1, step.layer.columns))(x) for x in self.inputs(step)])

    def GlobalAveragePool(self, step: Step) -> tf.Tensor:
        return layers.GlobalAveragePooling2D(keepdims=step.layer.keep_dims)(*self.inputs(step))

    def Dense(self, step: Step) -> tf.Tensor:
        return self.parametrized(layers.Dense(step.shape[-1]), step, *self.inputs(step))

    def ResizeLike(self, step: Step) -> tf.Tensor:
        if step.input_shapes[0][:2] != (1, 1):
            raise NotImplementedError(f"{step.name} resizes a map of more than one pixel")
        return layers.UpSampling2D(step.shape[:2])(self.inputs(step)[0])


def build(network: Network, weights: Weights, batch: int) -> tf.keras.Model:
    """Return a Keras model with static shapes, batch norm folded into its convolutions."""
    image = tf.keras.Input(network.input_shape, batch_size=batch)
    graph = _Graph(weights, image)
    for step in network.steps:
        graph.tensors[step.name] = getattr(graph, step.op)(step)
    outputs = [graph.tensors[name] for name in network.outputs]
    return tf.keras.Model(image, outputs if len(outputs) > 1 else outputs[0])


def to_tflite(model: tf.keras.Model) -> bytes:
    """Return the float32 flatbuffer of a Keras model."""
    with tempfile.TemporaryDirectory() as folder:
        signature = [tf.TensorSpec(model.input_shape, tf.float32)]
        model.export(folder, verbose=False, input_signature=signature)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
