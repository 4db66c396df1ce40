"""Keras's `.h5`: a whole model that `keras.models.load_model` opens and whose weights `load_weights` takes.

The file is npmnv2's native one and holds the arrays once; Keras finds them by a second name in
`model_weights`. The description of the model is written without Keras, from the plan: one entry for each
Keras layer. Depthwise convolutions of stride 2 pad by themselves ("same") instead of by a layer in front,
which is the same for every size of the input, while Keras's own model fixes its pads for one size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.network.architecture import CLASSIFIER, POOL
from npmnv2.network.layers import Add, Conv, Dense, Depthwise, GlobalAveragePool
from npmnv2.network.plan import IMAGE, Part, Plan, batch_norm_name
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import write_image

from .norms import unfolded

# The version whose legacy format this is; Keras reads it to choose how to understand the rest.
KERAS_VERSION = "3.0.0"
_MOMENTUM = 0.999
_MAXIMUM = {"relu6": 6.0, "relu": None}


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a model file that Keras opens.

    Layers whose batch norm is folded get one that changes nothing. An existing file survives an error.

    Parameters
    ----------
    checkpoint : Checkpoint
        For classification or features.
    path : str or Path

    Raises
    ------
    WeightsError
        If Keras has no such model.
    OSError
    """
    if checkpoint.task not in ("classification", "features") or checkpoint.config is None:
        raise WeightsError(f"Keras has no MobileNetV2 for {checkpoint.task}; write native .h5 or .npz instead")
    plan = plan_for(checkpoint.config, checkpoint.weights)
    weights = unfolded(checkpoint.weights, checkpoint.config)
    description = json.dumps(model_config(plan, checkpoint.config.num_channels))
    keras = {"keras_version": KERAS_VERSION, "backend": "tensorflow", "model_config": description}
    write_image(Path(path), replace(checkpoint, weights=weights), keras)


def model_config(plan: Plan, channels: int) -> dict[str, Any]:
    """The description of a functional Keras model that computes `plan`."""
    layers = list(_layers(plan, channels))
    return {
        "class_name": "Functional",
        "config": {
            "name": "mobilenetv2",
            "layers": layers,
            "input_layers": [IMAGE, 0, 0],
            "output_layers": [layers[-1]["name"], 0, 0],
        },
    }


def _layers(plan: Plan, channels: int) -> Iterator[dict[str, Any]]:
    """Keras's layers in order; `results` says which of them holds the result of a node of the plan."""
    shape = [None, None, None, channels]
    yield _layer("InputLayer", IMAGE, (), batch_input_shape=shape, dtype="float32")
    results = {IMAGE: IMAGE}
    for part in plan.parts():
        inputs = tuple(results[name] for name in part.inputs)
        for layer in _layers_of_part(part, inputs):
            results[part.name] = layer["name"]
            yield layer
        block, _, last = part.name.rpartition("_")
        if last in ("project", "add"):
            results[block] = results[part.name]


def _layers_of_part(part: Part, inputs: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    layer = part.layer
    if isinstance(layer, Conv | Depthwise):
        yield from _convolution(part, layer, inputs[0])
    elif isinstance(layer, Add):
        yield _layer("Add", part.name, inputs)
    elif isinstance(layer, GlobalAveragePool):
        yield _layer("GlobalAveragePooling2D", POOL, inputs, data_format="channels_last")
    elif isinstance(layer, Dense):
        yield _layer("Dense", CLASSIFIER, inputs, units=layer.units, activation="softmax", use_bias=True)
    else:
        raise WeightsError(f"the Keras model has no {type(layer).__name__} ({part.name}); write native .h5 instead")


def _convolution(part: Part, layer: Conv | Depthwise, source: str) -> Iterator[dict[str, Any]]:
    if layer.norm is None:
        raise WeightsError(f"the Keras model has no convolution with a bias ({part.name}); write native .h5 instead")
    padding = "same"
    if not layer.tf_padding and layer.kernel > 1:
        padding, pad = "valid", layer.dilation * (layer.kernel // 2)
        yield _layer("ZeroPadding2D", f"{part.name}_pad", (source,), padding=[[pad, pad], [pad, pad]])
        source = f"{part.name}_pad"
    settings: dict[str, Any] = {
        "kernel_size": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "dilation_rate": [layer.dilation] * 2,
        "padding": padding,
        "use_bias": False,
    }
    if isinstance(layer, Conv):
        yield _layer("Conv2D", part.name, (source,), filters=layer.filters, **settings)
    else:
        yield _layer("DepthwiseConv2D", part.name, (source,), **settings)
    norm = batch_norm_name(part.name)
    yield _layer("BatchNormalization", norm, (part.name,), axis=-1, epsilon=layer.norm, momentum=_MOMENTUM)
    if layer.activation == "linear":
        return
    if layer.activation not in _MAXIMUM:
        raise WeightsError(f"the Keras file cannot say hidden_act (={layer.activation!r}); write native .h5 instead")
    # Keras calls the activation after the last convolution out_relu.
    name = "out_relu" if part.name == "Conv_1" else f"{part.name}_relu"
    yield _layer("ReLU", name, (norm,), max_value=_MAXIMUM[str(layer.activation)])


def _layer(class_name: str, name: str, inputs: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in inputs]] if inputs else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **settings}, "inbound_nodes": nodes}
