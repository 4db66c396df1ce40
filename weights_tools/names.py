"""One layer's name in TF-slim, transformers and torchvision, as rules.

The canonical name is Keras's layer name. Each notation is a function of (layer, role), where the role is
``kernel``, ``bias`` or one of the batch norm's four variables; the tables that readers use are those
functions applied to all layers and turned round. Layouts: Keras and TensorFlow store kernels as (height,
width, in, out), PyTorch as (out, in, height, width); for depthwise kernels (height, width, channels, 1) and
(channels, 1, height, width).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np

from npmnv2.kernels import Array
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights.keras import canonical_from_path
from npmnv2.weights.names import LAYERS, ROLES, canonical, is_depthwise, split

Notation = Callable[[str, str], str]

_BLOCK = re.compile(r"(?:expanded_conv|block_(?P<index>\d+))_(?P<part>expand|depthwise|project)")
_SSD_SCOPE = re.compile(
    r"(?:FeatureExtractor/MobilenetV2/(?P<extra>layer_\d+_[12]_Conv2d_\d_\w+)"
    r"|BoxPredictor_(?P<map>\d)/(?P<predictor>(?:BoxEncoding|Class)Predictor(?:_depthwise)?))"
)
_SSD_PREDICTOR = re.compile(r"BoxPredictor_(\d)_(\w+)")


def _block(layer: str) -> tuple[int, str] | None:
    """Number (0 for the first, unexpanded one) and part of a layer inside an inverted residual."""
    match = _BLOCK.fullmatch(layer)
    return (int(match["index"] or 0), match["part"]) if match else None


# --- TF-slim ------------------------------------------------------------------------------------------------

_SLIM_SCOPES = {
    "Conv1": "MobilenetV2/Conv",
    "Conv_1": "MobilenetV2/Conv_1",
    CLASSIFIER: "MobilenetV2/Logits/Conv2d_1c_1x1",
    "logits_semantic": "logits/semantic",
}


def slim_scope(layer: str, detection: bool = False) -> str:
    """The variable scope of a layer; in a detection model the backbone lives below ``FeatureExtractor``."""
    prefix = "FeatureExtractor/" if detection else ""
    if block := _block(layer):
        index, part = block
        return f"{prefix}MobilenetV2/expanded_conv{f'_{index}' if index else ''}/{part}"
    if layer in ("Conv1", "Conv_1"):
        return prefix + _SLIM_SCOPES[layer]
    if match := _SSD_PREDICTOR.fullmatch(layer):
        return f"BoxPredictor_{match[1]}/{match[2]}"
    if layer.startswith("layer_"):
        return f"FeatureExtractor/MobilenetV2/{layer}"
    if layer.startswith("decoder_"):
        inner = layer.removeprefix("decoder_") if "projection" in layer else layer
        return f"decoder/{inner}"
    return _SLIM_SCOPES.get(layer, layer)


def slim_name(layer: str, role: str, detection: bool = False) -> str:
    """TF-slim's name, such as ``MobilenetV2/expanded_conv_1/expand/BatchNorm/gamma``."""
    kernel = "depthwise_weights" if is_depthwise(layer) else "weights"
    leaf = {"kernel": kernel, "bias": "biases"}.get(role, f"BatchNorm/{role}")
    return f"{slim_scope(layer, detection)}/{leaf}"


def canonical_from_slim(name: str) -> str | None:
    """The canonical name of a slim variable, classification, DeepLab or SSD; None for
    other names.
    """
    short = name.removeprefix("FeatureExtractor/")
    known = _inverse(slim_name).get(short)
    if known is not None:
        return known
    scope, role = _slim_leaf(name)
    match = _SSD_SCOPE.fullmatch(scope)
    if not match or not role:
        return None
    return canonical(match["extra"] or f"BoxPredictor_{match['map']}_{match['predictor']}", role)


def _slim_leaf(name: str) -> tuple[str, str]:
    scope, _, leaf = name.rpartition("/")
    if scope.endswith("/BatchNorm") and leaf in BATCH_NORM_VARIABLES:
        return scope.removesuffix("/BatchNorm"), leaf
    return scope, {"weights": "kernel", "depthwise_weights": "kernel", "biases": "bias"}.get(leaf, "")


# --- Keras --------------------------------------------------------------------------------------------------


@cache
def _canonical_names() -> frozenset[str]:
    return frozenset(canonical(layer, role) for layer in LAYERS for role in ROLES)


def canonical_from_keras(name: str) -> str | None:
    """The canonical name of a Keras variable, which may have its model's name before it and ``:0`` after it."""
    known = canonical_from_path(name)
    return known if known in _canonical_names() else None


# --- transformers -------------------------------------------------------------------------------------------

_TORCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_TRANSFORMERS_PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
_TRANSFORMERS_MODULES = {
    "Conv1": "mobilenet_v2.conv_stem.first_conv",
    "Conv_1": "mobilenet_v2.conv_1x1",
    "image_pooling": "segmentation_head.conv_pool",
    "aspp0": "segmentation_head.conv_aspp",
    "concat_projection": "segmentation_head.conv_projection",
    "logits_semantic": "segmentation_head.classifier",
}


def transformers_module(layer: str) -> str:
    """The module that holds a layer's convolution and normalization; '' for layers that transformers does not
    have.
    """
    if block := _block(layer):
        index, part = block
        parent = f"layer.{index - 1}" if index else "conv_stem"
        return f"mobilenet_v2.{parent}.{_TRANSFORMERS_PARTS[part]}"
    return _TRANSFORMERS_MODULES.get(layer, "")


def transformers_name(layer: str, role: str) -> str:
    """Transformers' name, such as ``mobilenet_v2.layer.0.expand_1x1.normalization.weight``; '' when there is
    none.
    """
    if layer == CLASSIFIER:
        return {"kernel": "classifier.weight", "bias": "classifier.bias"}.get(role, "")
    module = transformers_module(layer)
    if not module:
        return ""
    leaf = {"kernel": "convolution.weight", "bias": "convolution.bias"}.get(role)
    return f"{module}.{leaf or f'normalization.{_TORCH_NORM[role]}'}"


# --- torchvision --------------------------------------------------------------------------------------------


def torchvision_modules(layer: str) -> tuple[str, str]:
    """The modules of a layer's convolution and of its batch norm; '' where there is none."""
    if layer == CLASSIFIER:
        return "classifier.1", ""
    if layer in ("Conv1", "Conv_1"):
        index = 0 if layer == "Conv1" else 18
        return f"features.{index}.0", f"features.{index}.1"
    block = _block(layer)
    if block is None or block == (0, "expand"):
        return "", ""
    index, part = block
    # Convolution, norm and activation share a Sequential, except that the projection has no activation and no
    # Sequential.
    at = ("expand", "depthwise", "project").index(part) - (1 if index == 0 else 0)
    inside = f"features.{index + 1}.conv"
    if part == "project":
        return f"{inside}.{at}", f"{inside}.{at + 1}"
    return f"{inside}.{at}.0", f"{inside}.{at}.1"


def torchvision_name(layer: str, role: str) -> str:
    """Torchvision's name, such as ``features.2.conv.0.1.weight``; '' for layers that torchvision does not
    have.
    """
    convolution, norm = torchvision_modules(layer)
    module = convolution if role in ("kernel", "bias") else norm
    leaf = {"kernel": "weight", "bias": "bias"}.get(role) or _TORCH_NORM[role]
    return f"{module}.{leaf}" if module else ""


# --- tables and layouts -------------------------------------------------------------------------------------


@cache
def _inverse(notation: Notation) -> dict[str, str]:
    table = {notation(layer, role): canonical(layer, role) for layer in LAYERS for role in ROLES}
    table.pop("", None)
    return table


def canonical_from_transformers(name: str) -> str | None:
    """The canonical name of a transformers tensor; the headless model's names lack ``mobilenet_v2.``."""
    table = _inverse(transformers_name)
    return table.get(name) or table.get(f"mobilenet_v2.{name}")


def canonical_from_torchvision(name: str) -> str | None:
    """The canonical name of a torchvision tensor."""
    return _inverse(torchvision_name).get(name)


def from_torch_layout(name: str, value: Array) -> Array:
    """A PyTorch tensor in the layout of the canonical variable `name`; rank mismatches pass through
    unchanged.
    """
    layer, role = split(name)
    if role != "kernel":
        return value
    if value.ndim == 2:
        return value.T
    if value.ndim != 4:
        return value
    return value.transpose((2, 3, 0, 1) if is_depthwise(layer) else (2, 3, 1, 0))


def to_torch_layout(name: str, value: Array) -> Array:
    """The canonical variable `name` in PyTorch's layout, contiguous."""
    layer, role = split(name)
    if role != "kernel":
        return np.ascontiguousarray(value)
    if value.ndim == 2:
        return np.ascontiguousarray(value.T)
    return np.ascontiguousarray(value.transpose((2, 3, 0, 1) if is_depthwise(layer) else (3, 2, 0, 1)))


def from_slim_layout(name: str, value: Array) -> Array:
    """A slim variable in canonical layout: slim's classifier is a 1×1 convolution, Keras's is a matrix."""
    return value[0, 0] if name == f"{CLASSIFIER}/kernel" and value.ndim == 4 and value.shape[:2] == (1, 1) else value


def to_slim_layout(name: str, value: Array) -> Array:
    """The canonical variable `name` in slim's layout."""
    return value[np.newaxis, np.newaxis] if name == f"{CLASSIFIER}/kernel" else value
