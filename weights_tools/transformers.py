"""Directories that transformers saves and loads: ``config.json``, ``preprocessor_config.json``,
``model.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.files import write_directory
from npmnv2.images.processor import PRESETS, MobileNetV2ImageProcessor
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights.assemble import Content, assemble, plan_for
from npmnv2.weights.bounds import MAX_JSON_BYTES, Array, damaged, file_size
from npmnv2.weights.checkpoint import Checkpoint, check_weights
from npmnv2.weights.names import layers_of, split
from npmnv2.weights.native import CONFIG_FILE
from npmnv2.weights.readers import SAFETENSORS

from .names import canonical_from_transformers, from_torch_layout, to_torch_layout, transformers_name
from .norms import unfolded
from .tensors import read_tensors, renamed, write_tensors

WEIGHTS, CONFIG, PREPROCESSOR = SAFETENSORS, CONFIG_FILE, "preprocessor_config.json"
_ARCHITECTURES = {
    "classification": "MobileNetV2ForImageClassification",
    "segmentation": "MobileNetV2ForSemanticSegmentation",
    "features": "MobileNetV2Model",
}
_PREFIX = "mobilenet_v2."
_UNKNOWN_TO_TRANSFORMERS = {"central_fraction", "pad_size", "pad_value"}


def read(path: str | Path) -> Checkpoint:
    """Read a directory that transformers' ``save_pretrained`` wrote, or a Hugging Face repository.

    Parameters
    ----------
    path : str or Path
        The directory, or the ``model.safetensors`` in it.

    Returns
    -------
    Checkpoint
        For classification, segmentation or features, as the tensors say. The last convolution that
        transformers keeps in its segmentation models, although nothing uses it, is left out.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    path = Path(path)
    directory, weights_file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if not weights_file.is_file():
        raise FileNotFoundError(f"{weights_file}: no such file{_pickle_hint(directory)}")
    weights, others = renamed(read_tensors(weights_file), canonical_from_transformers, from_torch_layout)
    if "logits_semantic" in layers_of(weights):
        weights = {name: value for name, value in weights.items() if split(name)[0] != "Conv_1"}
    config = _read_config(directory / CONFIG, weights)
    labels = _labels(config)
    preprocessing = _read_preprocessor(directory / PREPROCESSOR, config)
    content = Content(weights, unexpected=others, config=config, labels=labels, preprocessing=preprocessing)
    return assemble(weights_file, "transformers", content)


def _pickle_hint(directory: Path) -> str:
    if not (directory / "pytorch_model.bin").exists():
        return ""
    return (
        "; pytorch_model.bin is a pickle, which can run code when it is opened: let transformers save it as safetensors"
    )


def _read_config(path: Path, weights: Mapping[str, Array]) -> MobileNetV2Config | None:
    if not path.exists():
        return None
    try:
        config = MobileNetV2Config.from_pretrained(path)
    except (ArgumentError, ArgumentTypeError) as error:
        raise damaged(path, str(error)) from None
    # A headless model's file still counts transformers' two default labels.
    headless = not {"predictions", "logits_semantic"} & set(layers_of(weights))
    return config.replace(num_labels=0) if headless else config


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of sane size."""
    if file_size(path) > MAX_JSON_BYTES:
        raise WeightsError(f"{path}: has more than the {MAX_JSON_BYTES:,} bytes that are read of such a file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise damaged(path, f"a JSON object is expected, found {type(value).__name__}")
    return value


def _labels(config: MobileNetV2Config | None) -> tuple[str, ...] | None:
    if config is None or config.id2label is None:
        return None
    names = tuple(config.id2label.values())
    numbered = tuple(f"LABEL_{i}" for i in range(len(names)))
    return names if names and names != numbered else None


def _read_preprocessor(path: Path, config: MobileNetV2Config | None) -> dict[str, Any]:
    if not path.exists():
        return {"preset": "hf", "size": config.image_size if config else 224}
    try:
        return MobileNetV2ImageProcessor.from_dict(_read_json(path)).to_preprocessing()
    except (ValueError, TypeError) as error:
        raise damaged(path, str(error)) from None


# --- writing ------------------------------------------------------------------------------------------------


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a directory that transformers' ``from_pretrained`` accepts.

    Layers whose batch norm is folded get one that changes nothing; the last convolution, which transformers'
    segmentation model has and does not use, is written as zeros. Files that are already there survive an
    error.

    Parameters
    ----------
    checkpoint : Checkpoint
        For classification, segmentation without decoder, or features.
    path : str or Path
        The directory; made if it does not exist.

    Raises
    ------
    WeightsError
        If transformers has no model of this kind.
    """
    path = Path(path)
    config = _expressible(checkpoint)
    tensors = _tensors(checkpoint, config)
    texts = {CONFIG: _config_values(checkpoint, config), PREPROCESSOR: processor_values(checkpoint)}
    write_directory(
        path,
        {
            WEIGHTS: lambda file: write_tensors(file, tensors),
            **{name: _json_writer(values) for name, values in texts.items()},
        },
    )


def _json_writer(values: Mapping[str, Any]) -> Any:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return lambda file: file.write_text(text, encoding="utf-8")


def _expressible(checkpoint: Checkpoint) -> MobileNetV2Config:
    """The checkpoint's configuration by transformers' rule of rounding, or a WeightsError."""
    if checkpoint.task not in _ARCHITECTURES or checkpoint.config is None:
        raise _inexpressible(f"it has no MobileNetV2 for {checkpoint.task}")
    layers = layers_of(checkpoint.weights)
    foreign = [layer for layer in layers if not transformers_name(layer, "kernel")]
    if foreign:
        raise _inexpressible(f"its model has no layer {', '.join(foreign)}")
    if "Conv_1" not in layers and checkpoint.task == "features":
        raise _inexpressible("its model ends in the layer Conv_1, which these weights do not have")
    config = checkpoint.config.replace(width_rule="transformers")
    check_weights(plan_for(config, checkpoint.weights), checkpoint.weights, "weights for transformers' widths")
    stem, first = checkpoint.weights["expanded_conv_project/kernel"].shape[2:]
    if checkpoint.config.width_rule != "transformers" and stem == first:
        raise _inexpressible("it does not add the input in the first block, as TensorFlow does at such widths")
    return config


def _inexpressible(why: str) -> WeightsError:
    return WeightsError(f"these weights cannot be written for transformers: {why}; write .h5 or .npz instead")


def _tensors(checkpoint: Checkpoint, config: MobileNetV2Config) -> dict[str, Array]:
    weights = unfolded(checkpoint.weights, config)
    if checkpoint.task == "segmentation":
        weights |= _unused_last_convolution(weights, config)
    tensors: dict[str, Array] = {}
    for name, value in weights.items():
        layer, role = split(name)
        key = transformers_name(layer, role)
        if checkpoint.task == "features":
            key = key.removeprefix(_PREFIX)
        tensors[key] = to_torch_layout(name, value)
        if role == "moving_variance":
            tensors[key.removesuffix("running_var") + "num_batches_tracked"] = np.zeros((), np.int64)
    return tensors


def _unused_last_convolution(weights: Mapping[str, Array], config: MobileNetV2Config) -> dict[str, Array]:
    inputs, width = weights["block_16_project/kernel"].shape[-1], config.head_width
    ones = {"gamma", "moving_variance"}
    norm = {f"Conv_1_bn/{v}": np.full(width, v in ones, np.float32) for v in BATCH_NORM_VARIABLES}
    return {"Conv_1/kernel": np.zeros((1, 1, inputs, width), np.float32), **norm}


def _config_values(checkpoint: Checkpoint, config: MobileNetV2Config) -> dict[str, Any]:
    # transformers asks for two labels of a model without a head.
    values = (config.replace(num_labels=2) if checkpoint.task == "features" else config).to_dict()
    return {**values, "architectures": [_ARCHITECTURES[checkpoint.task]], "torch_dtype": "float32"}


def processor_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """The contents of ``preprocessor_config.json``.

    Where the checkpoint's own way of preparing images cannot be said in transformers' words (TF-slim's,
    DeepLab's), it is transformers' default for the size, as in Google's own conversions.
    """
    size = checkpoint.preprocessing.get("size", checkpoint.config.image_size if checkpoint.config else 224)
    if checkpoint.preprocessing.get("preset") in PRESETS:
        processor = MobileNetV2ImageProcessor.from_preprocessing(checkpoint.preprocessing, size)
        values = processor.to_dict()
        if isinstance(processor.resample, int) and not set(values) & _UNKNOWN_TO_TRANSFORMERS:
            return values
    return MobileNetV2ImageProcessor.preset("hf", size).to_dict()
