"""Which value of the network a foreign tensor, operation or module holds, by its name alone.

Keras, TF-slim, transformers and torchvision each have a scope per layer, which their tensors' names begin with; ONNX
writes modules as paths. What comes after the scope (``/Relu6``, ``.activation``) says how far the layer has got: a
scope's last tensor is the layer's value.
"""

from __future__ import annotations

import re
from functools import cache

from npmnv2.network.architecture import CLASSIFIER, POOL
from npmnv2.network.plan import batch_norm_name
from npmnv2.weights.names import BLOCKS, LAYERS, split

from .names import canonical_from_slim, slim_scope, torchvision_modules, transformers_module

# What stands before a scope: a model's own name, the functions of a SavedModel, the parts of an ONNX path.
_PREFIX = re.compile(r"^(?:/|model/|StatefulPartitionedCall/|mobilenetv2_\d\.\d+_\d+/|functional(?:_\d+)?/|import/)+")
_OUTPUT_NUMBER = re.compile(r":\d+$")
_CALL_NUMBER = re.compile(r"_\d+$")


def endpoint_of(name: str) -> str | None:
    """The layer, or the block (``block_2`` for what it returns), that a foreign name belongs to; None for others."""
    known = _scopes()
    words = re.split(r"[/.;]", _OUTPUT_NUMBER.sub("", _PREFIX.sub("", name)))
    for count in range(len(words), 0, -1):
        scope = ".".join(words[:count])
        # ONNX drops the name of the model itself; Keras 3 numbers the calls of a layer.
        for candidate in (scope, f"mobilenet_v2.{scope}", _CALL_NUMBER.sub("", scope)):
            if candidate in known:
                return known[candidate]
    return _detection_layer(words)


def _detection_layer(words: list[str]) -> str | None:
    """A layer of an SSD's head, which TF-slim's scopes name."""
    for count in range(len(words), 0, -1):
        scope = "/".join(words[:count])
        for kernel in ("weights", "depthwise_weights"):
            known = canonical_from_slim(f"{scope}/{kernel}")
            if known is not None:
                return split(known)[0]
    return None


@cache
def _scopes() -> dict[str, str]:
    """Endpoint by scope, with dots between the words of all notations."""
    found: dict[str, str] = {}
    for layer in LAYERS:
        for scope in _layer_scopes(layer):
            found.setdefault(scope.replace("/", "."), layer)
    for index, block in enumerate(("expanded_conv", *(f"block_{i}" for i in BLOCKS))):
        slim = f"MobilenetV2.expanded_conv{f'_{index}' if index else ''}"
        torch = f"mobilenet_v2.layer.{index - 1}" if index else "mobilenet_v2.conv_stem"
        names = (block, slim, f"FeatureExtractor.{slim}", torch, f"features.{index + 1}", f"{block}_add")
        found |= {name: block for name in names if name not in found}
    pools = (POOL, "avg_pool", "global_pool", "mobilenet_v2.pooler", "MobilenetV2.Logits.AvgPool")
    return {**found, **dict.fromkeys(pools, POOL), "predictions_logits": CLASSIFIER}


def _layer_scopes(layer: str) -> list[str]:
    keras = {"Conv1": "Conv1_relu", "Conv_1": "out_relu"}.get(layer, f"{layer}_relu")
    convolution, norm = torchvision_modules(layer)
    torchvision = [convolution, norm, convolution.rpartition(".")[0] if norm and "project" not in layer else ""]
    transformers = "classifier" if layer == CLASSIFIER else transformers_module(layer)
    names = [layer, batch_norm_name(layer), keras, slim_scope(layer), slim_scope(layer, True), transformers]
    return [name for name in (*names, *torchvision, "Logits" if layer == CLASSIFIER else "") if name]
