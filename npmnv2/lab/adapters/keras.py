"""Keras models. Inner values are those of a functional model with every layer's result as an output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from npmnv2.errors import ArgumentTypeError
from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter, framework
from npmnv2.lab.adapters.litert import read_model
from npmnv2.lab.alignment import Tap
from npmnv2.weights_tools import read, wiring, write_keras

_KINDS = {
    "Conv2D": wiring.CONV, "DepthwiseConv2D": wiring.DEPTHWISE, "Dense": wiring.DENSE, "Add": wiring.ADD,
    "Concatenate": wiring.CONCAT, "GlobalAveragePooling2D": wiring.POOL, "AveragePooling2D": wiring.POOL,
    "UpSampling2D": wiring.RESIZE, "Resizing": wiring.RESIZE,
    **dict.fromkeys(("BatchNormalization", "ReLU", "Activation", "LeakyReLU"), wiring.FOLLOW),
    **dict.fromkeys(("ZeroPadding2D", "Dropout", "Reshape", "Flatten", "Rescaling", "Cropping2D"), wiring.PASS),
}  # fmt: skip


class Keras(Adapter):
    """A live functional or sequential model, nested ones included.

    Parameters
    ----------
    live : keras.Model
    label : str

    Raises
    ------
    ArgumentTypeError
        If the model has no graph, as subclassed ones.
    """

    runtime: ClassVar[str] = "keras"

    def __init__(self, live: Any, label: str = "") -> None:
        if not getattr(live, "inputs", None):
            raise ArgumentTypeError("a Keras model must be functional or built, so that its layers can be seen")
        self.live, self.label = live, label or f"{live.name} (Keras)"

    @classmethod
    def from_file(cls, path: str | Path) -> Keras:
        """A ``.keras`` file or, in Keras, the network of any file that npmnv2 reads."""
        models = framework("keras", "keras").models
        label = f"{Path(path).name} (Keras)"
        if Path(path).suffix == ".keras":
            return cls(models.load_model(path, compile=False), label)
        with tempfile.TemporaryDirectory() as folder:
            write_keras(read(path), Path(folder) / "model.h5")
            return cls(models.load_model(Path(folder) / "model.h5", compile=False), label)

    @cached_property
    def model(self) -> Any:
        """The model's weights here; None if they are not a MobileNetV2's."""
        with tempfile.TemporaryDirectory() as folder:
            self.live.save_weights(Path(folder) / "model.weights.h5")
            return read_model(Path(folder) / "model.weights.h5")

    def taps(self, x: Array) -> list[Tap]:
        """Every layer's result."""
        return list(_taps(self.live, x.astype(self.live.inputs[0].dtype)))


def _taps(model: Any, x: Any) -> Iterator[Tap]:
    keras = framework("keras", "keras")
    model = getattr(model, "_functional", None) or model  # of a sequential model
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    sources = [_source(layer, model) for layer in layers]
    nested = {layer.name: source for layer, source in zip(layers, sources) if getattr(layer, "layers", None)}
    outputs = [_result(layer, model) for layer in layers]
    seen = keras.Model(model.inputs, [*outputs, *nested.values()])([x], training=False)
    values = [np.asarray(value) for value in (seen if isinstance(seen, (list, tuple)) else [seen])]
    inputs = dict(zip(nested, values[len(layers) :]))
    for layer, source, value in zip(layers, sources, values):
        if layer.name in nested:
            yield from _taps(layer, inputs[layer.name])
        else:
            kind = _KINDS.get(type(layer).__name__, wiring.OTHER)
            yield Tap(layer.name, value, kind, source._keras_history.operation.name)


def _node(layer: Any, model: Any) -> Any:
    """The call of a layer inside this model: a layer may have been called elsewhere before."""
    operations = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    return next(node for node in layer._inbound_nodes if id(node) in operations)


def _source(layer: Any, model: Any) -> Any:
    return _node(layer, model).input_tensors[0]


def _result(layer: Any, model: Any) -> Any:
    return _node(layer, model).outputs[0]
