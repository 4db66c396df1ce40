"""One file per operation in NumPy, where it reads as the definition; `device` compiles them, and `host` runs that."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .add import add, concat, concat_rows
from .anchors import AnchorRules, anchor_shapes, grid_anchors, ssd_anchors
from .boxes import CODER_SCALES, box_areas, clip_boxes, decode_boxes, decode_boxes_tflite, encode_boxes, overlaps
from .clip import NO_CLIP, RELU, RELU6, Clip, clip_in_place
from .conv import conv
from .dense import dense, sigmoid, softmax
from .depthwise import depthwise
from .detections import (
    CLIPPINGS,
    SCORE_FUNCTIONS,
    Clipping,
    DetectionRules,
    RawDetections,
    ScoreFunction,
    TfliteRules,
    class_scores,
    detections_of,
    find_detections,
    scores_above,
    tflite_detection_postprocess,
)
from .nms import Candidates, Selected, greedy_suppression, non_max_suppression, padded
from .padding import Geometry, output_size, same_padding, symmetric_padding
from .pointwise import pointwise
from .pool import average_pool, global_average_pool
from .registry import REGISTRY, Kernel
from .resize import VARIANTS, LinearWeights, Variant, lerp, linear_weights, resize_bilinear
from .types import Array

if TYPE_CHECKING:
    from . import bfloat16, quantized
    from .quantized import Arithmetic, Integers, TensorQuantization

__all__ = [
    "CLIPPINGS",
    "CODER_SCALES",
    "NO_CLIP",
    "REGISTRY",
    "RELU",
    "RELU6",
    "SCORE_FUNCTIONS",
    "VARIANTS",
    "AnchorRules",
    "Arithmetic",
    "Array",
    "Candidates",
    "Clip",
    "Clipping",
    "DetectionRules",
    "Geometry",
    "Integers",
    "Kernel",
    "LinearWeights",
    "RawDetections",
    "ScoreFunction",
    "Selected",
    "TensorQuantization",
    "TfliteRules",
    "Variant",
    "add",
    "anchor_shapes",
    "average_pool",
    "bfloat16",
    "box_areas",
    "class_scores",
    "clip_boxes",
    "clip_in_place",
    "concat",
    "concat_rows",
    "conv",
    "decode_boxes",
    "decode_boxes_tflite",
    "dense",
    "depthwise",
    "detections_of",
    "encode_boxes",
    "find_detections",
    "global_average_pool",
    "greedy_suppression",
    "grid_anchors",
    "lerp",
    "linear_weights",
    "non_max_suppression",
    "output_size",
    "overlaps",
    "padded",
    "pointwise",
    "quantized",
    "resize_bilinear",
    "same_padding",
    "scores_above",
    "sigmoid",
    "softmax",
    "ssd_anchors",
    "symmetric_padding",
    "tflite_detection_postprocess",
]


def __getattr__(name: str) -> Any:
    """What integers and bfloat16 need, imported when first used: networks of float32 do without."""
    if name not in ("bfloat16", "quantized", "Arithmetic", "Integers", "TensorQuantization"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "bfloat16":
        return importlib.import_module(f"{__name__}.bfloat16")
    module = importlib.import_module(f"{__name__}.quantized")
    return module if name == "quantized" else getattr(module, name)
