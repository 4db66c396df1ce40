"""Canonical names of weights: Keras's name of a layer, and the role that an array has in it.

The role is ``kernel``, ``bias`` or one of the batch norm's four variables, which stand under a layer name of their own:
``block_1_expand/kernel`` and ``block_1_expand_BN/gamma`` belong to one layer, `split` says.
"""

from __future__ import annotations

from collections.abc import Iterable

from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.plan import BATCH_NORM_VARIABLES, batch_norm_name

BLOCKS = range(1, 17)
BACKBONE = (
    "Conv1",
    *(f"expanded_conv_{part}" for part in ("expand", "depthwise", "project")),
    *(f"block_{i}_{part}" for i in BLOCKS for part in ("expand", "depthwise", "project")),
    "Conv_1",
)
SEGMENTATION = (
    "image_pooling",
    "aspp0",
    *(f"aspp{i}_{part}" for i in (1, 2, 3) for part in ("depthwise", "pointwise")),
    "concat_projection",
    "decoder_feature_projection0",
    *(f"decoder_conv{i}_{part}" for i in (0, 1) for part in ("depthwise", "pointwise")),
    "logits_semantic",
)
LAYERS = (*BACKBONE, CLASSIFIER, *SEGMENTATION)
ROLES = ("kernel", "bias", *BATCH_NORM_VARIABLES)


def is_depthwise(layer: str) -> bool:
    """Whether the layer of this name is a depthwise convolution."""
    return layer.endswith("depthwise")


def canonical(layer: str, role: str) -> str:
    """The canonical name of a variable, such as ``block_1_expand_BN/gamma``."""
    return f"{layer if role in ('kernel', 'bias') else batch_norm_name(layer)}/{role}"


def split(name: str) -> tuple[str, str]:
    """Layer and role of a canonical name. A batch norm's variables belong to the convolution before it."""
    owner, _, role = name.rpartition("/")
    if role not in BATCH_NORM_VARIABLES:
        return owner, role
    return {"bn_Conv1": "Conv1", "Conv_1_bn": "Conv_1"}.get(owner, owner.removesuffix("_BN")), role


def layers_of(names: Iterable[str]) -> dict[str, None]:
    """The layers that these canonical names belong to, in order of appearance, as an ordered set."""
    return dict.fromkeys(split(name)[0] for name in names)
