"""Batch norms that change nothing, for formats that insist on one after every convolution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Conv, Depthwise
from npmnv2.network.plan import batch_norm_name
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.bounds import Array


def unfolded(weights: Mapping[str, Array], config: MobileNetV2Config) -> dict[str, Array]:
    """Give every convolution a batch norm; those that have one already keep it.

    A folded bias b becomes γ=1, β=b, μ=0, σ²=1−ε, so that γ/√(σ²+ε) is 1 up to the rounding of 1−ε.
    """
    found = dict(weights)
    for part in plan_for(config, weights).parts():
        if not isinstance(part.layer, (Conv, Depthwise)) or part.layer.norm is None:
            continue
        bias = found.pop(f"{part.name}/bias", None)
        if bias is not None:
            norm = batch_norm_name(part.name)
            ones = np.ones_like(bias)
            found[f"{norm}/gamma"] = ones
            found[f"{norm}/beta"] = bias
            found[f"{norm}/moving_mean"] = np.zeros_like(bias)
            found[f"{norm}/moving_variance"] = ones - np.float32(part.layer.norm)
    return found
