"""Weights: the native HDF5 file, Keras's four HDF5 layouts, strict loading, and folding of batch norms.

Weights are a flat dictionary from ``"<layer>/<variable>"`` to array, with Keras's layer names and array layouts. The
native file is Keras's legacy layout plus one JSON attribute called ``npmnv2``; what it holds for a classifier opens in
``tf.keras.applications.MobileNetV2(...).load_weights``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npmnv2 import hdf5
from npmnv2.architecture import (
    CLASSIFIER,
    STAGES,
    STEM_CHANNELS,
    WIDTH_RULES,
    MobileNetV2Config,
    backbone,
    classifier,
)
from npmnv2.errors import WeightsError
from npmnv2.files import write_atomically
from npmnv2.kernels import Array
from npmnv2.layers import Conv, Dense, Depthwise, Shape
from npmnv2.plan import BATCH_NORM_VARIABLES, Plan, batch_norm_name

FORMAT_VERSION = 1
TASKS = ("classification", "segmentation", "detection", "features")


@dataclass
class Checkpoint:
    """The contents of a weight file, whatever its format.

    Attributes
    ----------
    weights : dict of str to Array
        Canonical names and layouts; batch norms unfolded where the source has them.
    task : {"classification", "segmentation", "detection", "features"}
    config : MobileNetV2Config or None
    labels : tuple of str or None
        One per class, "background" included where the model has it.
    preprocessing : dict
        ``preset`` and what differs from it.
    source : dict
        Where it came from: format, file, sha256, ema, licence, …
    """

    weights: dict[str, Array]
    task: str
    config: MobileNetV2Config | None
    labels: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


# --- from file to network ---------------------------------------------------------------------------------------------


def check(plan: Plan, weights: Mapping[str, Array], where: str = "weights") -> None:
    """Compare names and shapes with what `plan` needs, and report everything that is wrong at once.

    A convolution may come with its batch norm or, already folded, with a bias.

    Raises
    ------
    WeightsError
    """
    expected = _expected(plan, weights)
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    misshapen = [
        f"{name} is {weights[name].shape}, must be {shape}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    problems = [
        f"{len(names)} {word}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise WeightsError(f"{where} must fit the network, got {'; '.join(problems)}")


def _expected(plan: Plan, weights: Mapping[str, Array]) -> dict[str, Shape]:
    """`plan.parameter_shapes`, with a bias in place of each batch norm that `weights` has folded."""
    expected = plan.parameter_shapes()
    for part in plan.parts():
        norm = batch_norm_name(part.name)
        if f"{norm}/beta" in expected and f"{part.name}/bias" in weights:
            expected[f"{part.name}/bias"] = expected[f"{norm}/beta"]
            for variable in BATCH_NORM_VARIABLES:
                del expected[f"{norm}/{variable}"]
    return expected


def fold(plan: Plan, weights: Mapping[str, Array], dtype: DTypeLike = np.float32) -> dict[str, Array]:
    """Fold every batch norm into the convolution before it, and lay kernels out as the backends take them.

    ``kernel' = kernel · γ/√(σ² + ε)`` and ``bias' = β - μ · γ/√(σ² + ε)``, computed in float64 and rounded once.

    Returns
    -------
    dict of str to Array
        ``<layer>/kernel``: convolution (kh, kw, Cin, Cout), pointwise and dense (Cin, Cout), depthwise (kh, kw, C);
        ``<layer>/bias``: (Cout,). C-contiguous, of type `dtype`.
    """
    folded: dict[str, Array] = {}
    for name, layer, _ in plan.parts():
        if not isinstance(layer, (Conv, Depthwise, Dense)):
            continue
        kernel: Array = weights[f"{name}/kernel"].astype(np.float64)
        if isinstance(layer, Depthwise):
            kernel = kernel[..., 0]
        elif kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        if isinstance(layer, Dense) or f"{name}/bias" in weights:
            bias: Array = weights[f"{name}/bias"].astype(np.float64)
        else:
            assert layer.norm is not None
            scale, bias = _scale_and_shift(weights, batch_norm_name(name), layer.norm)
            kernel = kernel * scale
        folded[f"{name}/kernel"] = np.ascontiguousarray(kernel, dtype)
        folded[f"{name}/bias"] = np.ascontiguousarray(bias, dtype)
    return folded


def _scale_and_shift(weights: Mapping[str, Array], norm: str, epsilon: float) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (weights[f"{norm}/{v}"].astype(np.float64) for v in BATCH_NORM_VARIABLES)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def initialize(
    plan: Plan, config: MobileNetV2Config, seed: int | np.random.Generator | None = None
) -> dict[str, Array]:
    """Random weights as in transformers: kernels normal with `initializer_range`, biases 0, batch norms neutral."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, shape in plan.parameter_shapes().items():
        variable = name.rpartition("/")[2]
        if variable == "kernel":
            weights[name] = rng.normal(0, config.initializer_range, shape).astype(np.float32)
        else:
            weights[name] = np.full(shape, variable in ("gamma", "moving_variance"), np.float32)
    return weights


def infer_config(weights: Mapping[str, Array], where: str = "weights", **known: Any) -> MobileNetV2Config:
    """Find the configuration whose network has exactly these shapes; fields that shapes do not show come as `known`.

    Raises
    ------
    WeightsError
        If no configuration fits; the message says what does not fit the nearest.
    """
    config = nearest_config(weights, where, **known)
    expected = backbone(config).parameter_shapes()
    if any(weights[name].shape != expected[name] for name in expected if name in weights):
        check(classifier(config) if f"{CLASSIFIER}/kernel" in weights else backbone(config), weights, where)
    return config


def nearest_config(weights: Mapping[str, Array], where: str = "weights", **known: Any) -> MobileNetV2Config:
    """Find the configuration whose network has these shapes, or as many of them as any; see `infer_config`.

    Raises
    ------
    WeightsError
        If there is no first layer to begin with.
    """
    shapes = {name: array.shape for name, array in weights.items()}
    stem = shapes.get("Conv1/kernel")
    if stem is None:
        raise WeightsError(f"{where} holds no MobileNetV2: there is no layer Conv1")
    if len(stem) != 4:
        raise WeightsError(f"{where}: Conv1/kernel must have four dimensions, got {stem}")
    head = shapes.get(f"{CLASSIFIER}/kernel")
    labels = known.pop("num_labels", head[1] if head is not None and len(head) == 2 else None)
    known = {
        "num_channels": stem[2],
        "first_layer_is_expansion": "expanded_conv_expand/kernel" not in shapes,
        **known,
    }
    best, least = MobileNetV2Config(**known), math.inf
    for guess in _guesses(known):
        distance = _distance(guess, shapes)
        if distance < least:
            best, least = guess, distance
        if distance == 0:
            break
    return best if labels is None else best.replace(num_labels=labels)


_FIRST_BLOCKS = ("expanded_conv", "block_1", "block_3", "block_6", "block_10", "block_13", "block_16")
# The layers that show how wide each stage is, and how wide it is at multiplier 1.
_WIDTHS = {"Conv1": STEM_CHANNELS} | {f"{b}_project": s.channels for b, s in zip(_FIRST_BLOCKS, STAGES)}


def _distance(config: MobileNetV2Config, shapes: Mapping[str, Shape]) -> int:
    """Number of shapes that differ from those of the configuration's network."""
    kernels = ((shapes.get(f"{layer}/kernel", ()), channels) for layer, channels in _WIDTHS.items())
    wrong = sum(config.width(channels) != kernel[-1] for kernel, channels in kernels if len(kernel) == 4)
    if wrong:
        # Building a plan takes a millisecond, and a stage that is too wide already rules it out.
        return wrong * len(shapes)
    expected = backbone(config).parameter_shapes()
    return sum(shapes[name] != expected[name] for name in expected if name in shapes)


def _guesses(known: dict[str, Any]) -> Iterator[MobileNetV2Config]:
    """Configurations in order of likelihood: the published multipliers first, then all others by hundredths."""
    published = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35)
    multipliers = (*published, *(m / 100 for m in range(5, 301) if m / 100 not in published))
    for divisor, multiplier in product((8, 1), multipliers):
        for fine, rule in product((True, False), WIDTH_RULES):
            if (multiplier >= 1 and not fine) or (multiplier in published and divisor == 8 and rule != "transformers"):
                continue
            given = {
                "depth_multiplier": multiplier,
                "depth_divisible_by": divisor,
                "min_depth": divisor,
                "finegrained_output": fine,
                "width_rule": rule,
                **known,
            }
            yield MobileNetV2Config(**given)


# --- the native file --------------------------------------------------------------------------------------------------


def write_h5(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the native file: Keras's legacy HDF5 layout and the JSON attribute ``npmnv2``. Atomic.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    """
    import h5py

    with (
        write_atomically(Path(path)) as temporary,
        # The oldest layout is the one that Keras writes and `npmnv2.hdf5` reads.
        h5py.File(temporary, "w", libver=("earliest", "v110")) as file,
    ):
        file.attrs["npmnv2"] = json.dumps(_metadata(checkpoint), ensure_ascii=False)
        layers: dict[str, list[str]] = {}
        for name in _in_order(checkpoint):
            layers.setdefault(name.rpartition("/")[0], []).append(name)
        # Keras pairs the layers of a file with those of a model by position, and these two attributes are the order.
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = checkpoint.weights[name]


def _in_order(checkpoint: Checkpoint) -> list[str]:
    """Names of the weights as backbone and classifier use them, then those of other heads as they come."""
    if checkpoint.config is None:
        return list(checkpoint.weights)
    network = _expected(classifier(checkpoint.config), checkpoint.weights)
    place = {name: at for at, name in enumerate(network)}
    return sorted(checkpoint.weights, key=lambda name: place.get(name, len(place)))


def _metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config.to_dict() if checkpoint.config is not None else None
    if config is not None:
        # The labels are written once, below.
        config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
        assert checkpoint.config is not None
        config["num_labels"] = checkpoint.config.num_labels
    return {
        "format": FORMAT_VERSION,
        "task": checkpoint.task,
        "config": config,
        "labels": checkpoint.labels,
        "preprocessing": checkpoint.preprocessing,
        "source": checkpoint.source,
    }


def read_h5(path: str | Path) -> Checkpoint:
    """Read a native file or any of Keras's HDF5 layouts (full model, weights only, nested, ``.weights.h5``).

    Raises
    ------
    FileNotFoundError
    WeightsError
        If it is not HDF5, is damaged, or does not hold a MobileNetV2.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights (={str(path)!r}) must be an existing file")
    file = hdf5.File(path)
    arrays = dict(_datasets(file))
    attribute, keras = file.text("", "npmnv2"), file.text("", "model_config")
    if attribute is not None:
        checkpoint = _native(attribute, arrays, path)
    else:
        checkpoint = _from_keras(arrays, _model_config(keras), path)
    checkpoint.source = {"file": path.name, "sha256": sha256(path), **checkpoint.source}
    return checkpoint


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _datasets(file: hdf5.File) -> Iterator[tuple[str, Array]]:
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


def _native(attribute: str, arrays: dict[str, Array], path: Path) -> Checkpoint:
    try:
        metadata = json.loads(attribute)
        version = metadata["format"]
        if version != FORMAT_VERSION:
            raise WeightsError(f"{path} has format version {version!r}; this version of npmnv2 reads {FORMAT_VERSION}")
        if metadata["task"] not in TASKS:
            raise WeightsError(f"{path}: task (={metadata['task']!r}) must be one of {', '.join(TASKS)}")
        labels = None if metadata["labels"] is None else tuple(map(str, metadata["labels"]))
        config = metadata["config"]
        if config is not None:
            config = _config(config, path)
            if labels is not None and len(labels) == config.classes:
                config = config.replace(id2label=dict(enumerate(labels)))
        return Checkpoint(
            arrays,
            metadata["task"],
            config,
            labels,
            dict(metadata["preprocessing"]),
            dict(metadata["source"]),
        )
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: the attribute 'npmnv2' is damaged: {error!r}") from None


def _config(values: dict[str, Any], path: Path) -> MobileNetV2Config:
    try:
        return MobileNetV2Config.from_dict(values)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _model_config(attribute: str | None) -> dict[str, Any]:
    """Keras's description of the model's layers, if the file has a readable one."""
    try:
        config = json.loads(attribute) if attribute is not None else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _from_keras(arrays: dict[str, Array], model: dict[str, Any], path: Path) -> Checkpoint:
    arrays = _rename_classifier(arrays, path)
    known: dict[str, Any] = {}
    settings = list(_keras_layers(model))
    epsilons = {layer["epsilon"] for layer in settings if isinstance(layer.get("epsilon"), float)}
    if len(epsilons) == 1:
        known["layer_norm_eps"] = epsilons.pop()
    shapes = [s for layer in settings if (s := layer.get("batch_shape", layer.get("batch_input_shape")))]
    if shapes and len(shapes[0]) == 4 and isinstance(shapes[0][1], int) and shapes[0][1] >= 32:
        known["image_size"] = shapes[0][1]
    config = infer_config(arrays, str(path), **known)
    task = "classification" if f"{CLASSIFIER}/kernel" in arrays else "features"
    plan = classifier(config) if task == "classification" else backbone(config)
    check(plan, arrays, str(path))
    ordered = {name: arrays[name] for name in _expected(plan, arrays)}
    return Checkpoint(ordered, task, config, None, {"preset": "keras", "size": config.image_size}, {"format": "keras"})


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
