"""Small quantized networks with random integers, for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from weight_files import random_checkpoint

from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import TensorQuantization, quantized
from npmnv2.network.quantization import Interface, Reshape, Softmax
from npmnv2.weights.assemble import in_order, plan_for
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms
from npmnv2.weights.quantize import quantize_network


def quantized_checkpoint(dtype="uint8", size=64, seed=0, task="classification", pooling=None, **fields) -> Checkpoint:
    """A random network, quantized with the ranges of two random images; the interface is a classifier's."""
    checkpoint = random_checkpoint(task, seed=seed, image_size=size, **fields)
    plan = plan_for(checkpoint.config, checkpoint.weights)
    folded = fold_batch_norms(plan, checkpoint.weights)
    low = int(np.iinfo(dtype).min)
    image = TensorQuantization((1 / 128,), 128 + low, dtype)
    x = integer_image(image, (2, size, size, checkpoint.config.num_channels), seed)
    values = NumpyExecutable(plan, folded)(quantized.dequantize(x, image), [part.name for part in plan.parts()])
    ranges = {name: (float(value.min()), float(value.max())) for name, value in values.items()}
    ranges["image"] = (-1.0, 127 / 128)
    pooling = pooling or ("average_pool" if dtype == "uint8" else "mean")
    weights, found = quantize_network(plan, folded, ranges, dtype, pooling)
    steps = ()
    if task == "classification":
        steps = Reshape((1, checkpoint.config.classes)), Softmax(TensorQuantization((1 / 256,), low, dtype))
    interface = Interface((1, size, size, checkpoint.config.num_channels), image, steps)
    return Checkpoint(
        in_order(plan, weights),
        task,
        checkpoint.config,
        None,
        {"preset": "slim", "size": size},
        {"format": "test"},
        replace(found, interface=interface),
    )


def integer_image(image: TensorQuantization, shape, seed=0) -> np.ndarray:
    """Random integers of an image."""
    low, high = image.limits
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(image.dtype)
