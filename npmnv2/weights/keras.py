"""Keras's four HDF5 layouts: full model, weights only, nested, and ``.weights.h5``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.network.architecture import CLASSIFIER, backbone, classifier
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights import hdf5
from npmnv2.weights.checkpoint import Checkpoint, check_weights, expected_shapes
from npmnv2.weights.infer import infer_config


def named_arrays(file: hdf5.File) -> Iterator[tuple[str, Array]]:
    """Canonical name and values of every weight in an HDF5 file."""
    names: set[str] = set()
    for array in file.arrays():
        if array.path.startswith(("optimizer_weights", "optimizer/")):
            continue
        name = _canonical(array.path, file)
        if name is None:
            continue
        if array.dtype is None:
            raise WeightsError(f"{file.path}: {array.path} must hold floating-point numbers")
        if name in names:
            raise WeightsError(f"{file.path} holds {name} more than once")
        names.add(name)
        yield name, array.values().astype(np.float32)


# Keras 3's ``.weights.h5`` numbers the variables of a layer.
_NUMBERED = {"batch_normalization": BATCH_NORM_VARIABLES, "": ("kernel", "bias")}
_VARIABLES = {
    "depthwise_kernel": "kernel",
    "kernel": "kernel",
    "bias": "bias",
    **{v: v for v in BATCH_NORM_VARIABLES},
}
_LAYERS = {"Logits": CLASSIFIER}


def _canonical(at: str, file: hdf5.File) -> str | None:
    """Canonical name of the array at path `at`; None where it is no weight of a layer."""
    *groups, last = at.split("/")
    if groups and groups[-1] == "vars" and last.isdigit():
        kind = "batch_normalization" if groups[-2].startswith("batch_normalization") else ""
        variables = _NUMBERED[kind]
        layer = file.text("/".join(groups), "name") or groups[-2]
        if int(last) >= len(variables):
            return None
        variable = variables[int(last)]
    elif groups:
        layer, variable = groups[-1], _VARIABLES.get(last.removesuffix(":0"), "")
    if not groups or not variable:
        return None
    return f"{_LAYERS.get(layer, layer)}/{variable}"


def model_config(attribute: str | None) -> dict[str, Any]:
    """Keras's description of the model's layers, if the file has a readable one."""
    try:
        config = json.loads(attribute) if attribute is not None else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def checkpoint_from_keras(arrays: dict[str, Array], model: dict[str, Any], path: Path) -> Checkpoint:
    arrays = _rename_classifier(arrays, path)
    known: dict[str, Any] = {}
    settings = list(_keras_layers(model))
    epsilons = {layer["epsilon"] for layer in settings if isinstance(layer.get("epsilon"), float)}
    if len(epsilons) == 1:
        known["layer_norm_eps"] = epsilons.pop()
    shapes = [s for layer in settings if (s := layer.get("batch_shape", layer.get("batch_input_shape")))]
    if shapes and len(shapes[0]) == 4 and isinstance(shapes[0][1], int) and shapes[0][1] >= 32:
        known["image_size"] = shapes[0][1]
    config = infer_config(arrays, str(path), _maker(settings), **known)
    task = "classification" if f"{CLASSIFIER}/kernel" in arrays else "features"
    plan = classifier(config) if task == "classification" else backbone(config)
    check_weights(plan, arrays, str(path))
    ordered = {name: arrays[name] for name in expected_shapes(plan, arrays)}
    return Checkpoint(ordered, task, config, None, {"preset": "keras", "size": config.image_size}, {"format": "keras"})


def _maker(settings: list[dict[str, Any]]) -> str:
    """Whose widths a model has: Keras's, unless its description shows that the first block does not add its input."""
    names = {layer["name"] for layer in settings if isinstance(layer.get("name"), str)}
    return "transformers" if "block_2_add" in names and "expanded_conv_add" not in names else "keras"


def _rename_classifier(arrays: dict[str, Array], path: Path) -> dict[str, Array]:
    """Call the one dense layer on top by its canonical name, whatever a fine-tuned model calls it."""
    dense = [name for name, array in arrays.items() if name.endswith("/kernel") and array.ndim == 2]
    if len(dense) > 1:
        raise WeightsError(f"{path} must end in one dense layer, got {len(dense)}: {', '.join(dense)}")
    if not dense:
        return arrays
    layer = dense[0].rpartition("/")[0]
    return {
        f"{CLASSIFIER}/{name.rpartition('/')[2]}" if name.rpartition("/")[0] == layer else name: array
        for name, array in arrays.items()
    }


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
