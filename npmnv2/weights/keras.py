"""Keras's four HDF5 layouts: full model, weights only, nested, and ``.weights.h5``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.config import MINIMUM_IMAGE_SIZE
from npmnv2.network.layers import Shape
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights import hdf5
from npmnv2.weights.assemble import Content, assemble
from npmnv2.weights.checkpoint import Checkpoint

_OPTIMIZERS = ("optimizer_weights/", "optimizer/")


def named_arrays(file: hdf5.File) -> Iterator[tuple[str, Array]]:
    """Canonical name and values, as float32, of every weight in an HDF5 file."""
    names: set[str] = set()
    for array in file.arrays():
        name = None if array.path.startswith(_OPTIMIZERS) else _canonical(array.path, file)
        if name is None:
            continue
        if array.dtype is None:
            raise WeightsError(f"{file.path}: {array.path} must hold numbers of a type that weights have")
        if name in names:
            raise WeightsError(f"{file.path} holds {name} more than once")
        names.add(name)
        yield name, _values(array)


def _values(array: hdf5.Array) -> Array:
    """Floats as float32; the integers of quantized networks as they are. Without a copy where that is possible."""
    values = array.values()
    if values.dtype.kind != "f":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    # A float64 too large for float32 becomes infinite, which strict loading reports with all other problems.
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def refuse_integers(arrays: Mapping[str, Array], path: Path) -> None:
    """Integers without their scales are not weights."""
    integers = [name for name, array in arrays.items() if array.dtype.kind != "f"]
    if integers:
        raise WeightsError(f"{path}: {', '.join(integers[:8])} must hold floating-point numbers")


# Keras 3's ``.weights.h5`` numbers the variables of a layer.
_NUMBERED = {"batch_normalization": BATCH_NORM_VARIABLES, "": ("kernel", "bias")}
_VARIABLES = {"depthwise_kernel": "kernel", **{v: v for v in ("kernel", "bias", *BATCH_NORM_VARIABLES)}}
_LAYERS = {"Logits": CLASSIFIER}


def _canonical(path: str, file: hdf5.File) -> str | None:
    """Canonical name of the array at `path`; None where it is not a weight of a layer."""
    *groups, last = path.split("/")
    if len(groups) < 2 or groups[-1] != "vars" or not last.isdecimal():
        return canonical_from_path(path)
    variables = _NUMBERED["batch_normalization" if groups[-2].startswith("batch_normalization") else ""]
    layer = file.text("/".join(groups), "name") or groups[-2]
    known = len(last) == 1 and int(last) < len(variables)
    return canonical_from_path(f"{layer}/{variables[int(last)]}") if known else None


def canonical_from_path(path: str) -> str | None:
    """Canonical name of Keras's ``…/layer/variable`` or ``…/layer/variable:0``; None for other names."""
    parents, _, last = path.removesuffix(":0").rpartition("/")
    layer, variable = parents.rpartition("/")[2], _VARIABLES.get(last)
    return f"{_LAYERS.get(layer, layer)}/{variable}" if layer and variable else None


def classifier_names(path: Path, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Canonical names of the last dense layer's variables, whatever a fine-tuned model calls that layer.

    Raises
    ------
    WeightsError
        If there are several dense layers.
    """
    names = {name: canonical_from_path(name) or "" for name in shapes}
    dense = [name for name in shapes if names[name].endswith("/kernel") and len(shapes[name]) == 2]
    if len(dense) > 1:
        raise WeightsError(f"{path} must end in one dense layer, got {len(dense)}: {', '.join(dense)}")
    layers = {names[name].rpartition("/")[0] for name in dense}
    found = {name: canonical.rpartition("/") for name, canonical in names.items()}
    return {name: f"{CLASSIFIER}/{variable}" for name, (layer, _, variable) in found.items() if layer in layers}


def model_config(attribute: str | None) -> dict[str, Any]:
    """Keras's description of the model's layers, if the file has a readable one."""
    try:
        config = json.loads(attribute) if attribute is not None else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def checkpoint_from_keras(
    arrays: Mapping[str, Array], model: dict[str, Any], path: Path, file_format: str = "keras"
) -> Checkpoint:
    """A checkpoint of a Keras file's arrays, under canonical names, and its description of the model.

    Raises
    ------
    WeightsError
        If the arrays are not those of one MobileNetV2.
    """
    refuse_integers(arrays, path)
    renamed = classifier_names(path, {name: array.shape for name, array in arrays.items()})
    settings = list(_keras_layers(model))
    return assemble(
        path,
        file_format,
        Content(
            {renamed.get(name, name): array for name, array in arrays.items()},
            dict(_known(settings)),
            maker=_maker(settings),
            preprocessing={"preset": "keras"},
        ),
    )


def _known(settings: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Fields of the configuration that a description of the model shows."""
    epsilons = {layer["epsilon"] for layer in settings if isinstance(layer.get("epsilon"), float)}
    if len(epsilons) == 1:
        yield "layer_norm_eps", epsilons.pop()
    shapes = [s for layer in settings if (s := layer.get("batch_shape", layer.get("batch_input_shape")))]
    size = shapes[0][1] if shapes and isinstance(shapes[0], list) and len(shapes[0]) == 4 else None
    if isinstance(size, int) and size >= MINIMUM_IMAGE_SIZE:
        yield "image_size", size


def _maker(settings: list[dict[str, Any]]) -> str:
    """Whose widths a model has: Keras's, unless its description shows that the first block does not add its input."""
    names = {layer["name"] for layer in settings if isinstance(layer.get("name"), str)}
    return "transformers" if "block_2_add" in names and "expanded_conv_add" not in names else "keras"


def _keras_layers(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """All dictionaries of settings inside a Keras model description, nested models included."""
    if depth > 32:
        return
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keras_layers(item, depth + 1)
