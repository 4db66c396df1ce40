"""Small networks with random folded weights, for tests of backends."""

from __future__ import annotations

import numpy as np

from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.weights.checkpoint import fold_batch_norms


def folded_weights(plan, seed=0):
    """Random weights of unit gain with their batch norms folded."""
    return fold_batch_norms(plan, unit_gain_weights(plan, seed))


SMALL = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=3, id2label={0: "cat", 1: "dog", 2: "owl"})

CONFIGS = {
    "0.35": MobileNetV2Config(depth_multiplier=0.35, num_labels=17),
    "stride 8": MobileNetV2Config(depth_multiplier=0.5, output_stride=8, num_labels=5, tf_padding=False),
    "odd widths": MobileNetV2Config(
        depth_multiplier=0.5, depth_divisible_by=1, min_depth=1, num_labels=40, first_layer_is_expansion=False
    ),
}


_SEGMENTATION = MobileNetV2Config(depth_multiplier=0.35, output_stride=16, num_labels=7)

# Everything that lowering treats in a way of its own.
PLANS = {
    **{name: classifier(config) for name, config in CONFIGS.items()},
    "features": classifier(CONFIGS["0.35"].replace(num_labels=0)),
    # A pool that leaves a map, so that the classifier runs on every pixel.
    "fixed window": classifier(CONFIGS["0.35"].replace(pooling_window=2)),
    # Stem and first block are equally wide, so that the block adds its input.
    "first residual": classifier(MobileNetV2Config(depth_multiplier=0.1, width_rule="slim", num_labels=5)),
    "DeepLab": segmenter(_SEGMENTATION),
    "DeepLab, atrous": segmenter(_SEGMENTATION.replace(atrous_rates=(2, 4))),
    "DeepLab, decoder": segmenter(_SEGMENTATION.replace(decoder=True, output_stride=8)),
}


def compiled_network(name, n_threads=1):
    from npmnv2.backends.selection import get_backend

    plan = classifier(CONFIGS[name])
    return plan, get_backend("compiled").compile(plan, folded_weights(plan), n_threads)


def images(batch, height=71, width=65):
    return np.random.default_rng(1).uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)
