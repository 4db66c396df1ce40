"""Quantized networks in real numbers, for formats and programs that do not hold integers."""

from __future__ import annotations

from dataclasses import replace

from npmnv2.backends.integers import real_weights
from npmnv2.errors import ArgumentError
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.equalize import restore
from npmnv2.weights.quantize import canonical_kernel


def dequantized(checkpoint: Checkpoint) -> Checkpoint:
    """The float network whose weights are the real numbers that the integers of a quantized network stand for.

    A kernel is (q − zero point) · scale, a bias q · scale of the input · scale of the kernel, each rounded to float32.
    The values between layers are not rounded any more, so that results differ from those in integers by that rounding.

    Raises
    ------
    ArgumentError
        If the network is not quantized.
    """
    quantization, config = checkpoint.quantization, checkpoint.config
    if quantization is None or config is None:
        raise ArgumentError("a network must be quantized to be dequantized; this one has real numbers")
    plan = plan_for(config, checkpoint.weights)
    weights = restore(plan, real_weights(plan, checkpoint.weights, quantization), quantization.exponents)
    for part in value_parts(plan):
        if part.name in quantization.kernels:
            weights[f"{part.name}/kernel"] = canonical_kernel(part, weights[f"{part.name}/kernel"])
    return replace(checkpoint, weights=weights, quantization=None)
