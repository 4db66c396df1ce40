"""One file per operation in NumPy, where it reads as the definition; `device` compiles them, and `host` runs that."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .add import add, concat, concat_rows
from .clip import NO_CLIP, RELU, RELU6, Clip, clip_in_place
from .conv import conv
from .dense import dense, softmax
from .depthwise import depthwise
from .padding import Geometry, output_size, same_padding, symmetric_padding
from .pointwise import pointwise
from .pool import average_pool, global_average_pool
from .registry import REGISTRY, Kernel
from .resize import VARIANTS, LinearWeights, Variant, lerp, linear_weights, resize_bilinear
from .types import Array

if TYPE_CHECKING:
    from . import quantized
    from .quantized import Arithmetic, Integers, TensorQuantization

__all__ = [
    "NO_CLIP",
    "REGISTRY",
    "RELU",
    "RELU6",
    "VARIANTS",
    "Arithmetic",
    "Array",
    "Clip",
    "Geometry",
    "Integers",
    "Kernel",
    "LinearWeights",
    "TensorQuantization",
    "Variant",
    "add",
    "average_pool",
    "clip_in_place",
    "concat",
    "concat_rows",
    "conv",
    "dense",
    "depthwise",
    "global_average_pool",
    "lerp",
    "linear_weights",
    "output_size",
    "pointwise",
    "quantized",
    "resize_bilinear",
    "same_padding",
    "softmax",
    "symmetric_padding",
]


def __getattr__(name: str) -> Any:
    """What integers need, imported when first used: networks of real numbers do without."""
    if name not in ("quantized", "Arithmetic", "Integers", "TensorQuantization"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.quantized")
    return module if name == "quantized" else getattr(module, name)
