"""MobileNetV2 as data: seven rows, a configuration, and the plan that follows from them.

Sources: Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (arXiv 1801.04381), table 2; the
configuration class of transformers; the width rules of the TensorFlow, Keras and transformers implementations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import AveragePool, Conv, Dense, GlobalAveragePool, InvertedResidual
from npmnv2.network.plan import IMAGE, Node, Plan


class Stage(NamedTuple):
    """One row of the paper's table 2: expansion t, output channels c, repeats n, stride s of the first repeat."""

    expand: bool
    channels: int
    repeats: int
    stride: int


STAGES = (
    Stage(False, 16, 1, 1),
    Stage(True, 24, 2, 2),
    Stage(True, 32, 3, 2),
    Stage(True, 64, 4, 2),
    Stage(True, 96, 3, 1),
    Stage(True, 160, 3, 2),
    Stage(True, 320, 1, 1),
)

POOL, CLASSIFIER = "global_average_pooling2d", "predictions"
LAST_BLOCK, LAST_CONV = "block_16", "Conv_1"


def backbone(config: MobileNetV2Config) -> Plan:
    """The network from the image to the last convolution, ``Conv_1``."""
    nodes = tuple(_backbone_nodes(config))
    return Plan(nodes, config.num_channels, _aliases(nodes))


def classifier(config: MobileNetV2Config) -> Plan:
    """The backbone, pooling, and one dense layer with a bias (none if there are no labels)."""
    plan = pooled_backbone(config)
    if config.classes == 0:
        return plan
    return attach(plan, Node(CLASSIFIER, Dense(config.classes), (POOL,)))


def pooled_backbone(config: MobileNetV2Config) -> Plan:
    """The backbone and its pooling: what gives one embedding per image."""
    window = config.pooling_window
    pool = GlobalAveragePool() if window is None else AveragePool(window, config.pooling_stride)
    return attach(backbone(config), Node(POOL, pool, (LAST_CONV,)))


def attach(plan: Plan, *nodes: Node) -> Plan:
    """Return `plan` with further nodes."""
    return Plan((*plan.nodes, *nodes), plan.channels, plan.aliases)


def _backbone_nodes(config: MobileNetV2Config) -> Iterator[Node]:
    shared: dict[str, Any] = {
        "tf_padding": config.tf_padding,
        "activation": config.hidden_act,
        "norm": config.layer_norm_eps,
    }
    channels = config.stem_width
    yield Node("Conv1", Conv(filters=channels, kernel=3, stride=2, **shared), (IMAGE,))
    before = "Conv1"
    for name, stage, (stride, dilation) in _blocks(config):
        filters = config.width(stage.channels)
        unexpanded = None if config.first_layer_is_expansion else channels
        expansion = config.expanded(channels) if stage.expand else unexpanded
        block = InvertedResidual(
            filters,
            expansion,
            stride,
            dilation,
            residual=stride == 1 and channels == filters and (stage.expand or config.rule.first_residual),
            **shared,
        )
        yield Node(name, block, (before,))
        before, channels = name, filters
    yield Node(LAST_CONV, Conv(filters=config.head_width, kernel=1, **shared), (before,))


def _blocks(config: MobileNetV2Config) -> Iterator[tuple[str, Stage, tuple[int, int]]]:
    """Name, stage, and (stride, dilation) of the 17 blocks.

    Once the output stride is reached, a block that would halve the map keeps its size, and the blocks *after* it are
    dilated instead (DeepLab, section 3.1).
    """
    names = iter(["expanded_conv", *(f"block_{i}" for i in range(1, 17))])
    reached, dilation = 2, 1
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            if reached == config.output_stride:
                yield next(names), stage, (1, dilation)
                dilation *= stride
            else:
                yield next(names), stage, (stride, 1)
                reached *= stride


# slim's word for a part of a block → ours
_SLIM_PARTS = {"expansion_output": "expand", "depthwise_output": "depthwise", "projection_output": "project"}
# Keras has layers of their own for what is folded into the convolution here; the last one of them is the same value.
_KERAS_PARTS = {"expand_relu": "expand", "depthwise_relu": "depthwise", "project_BN": "project"}


def _aliases(nodes: tuple[Node, ...]) -> dict[str, str]:
    aliases = {
        "Conv1_relu": "Conv1",
        "out_relu": LAST_CONV,
        "avg_pool": POOL,
        "global_pool": POOL,
        "Logits": CLASSIFIER,
    }
    for number, (name, layer, _) in enumerate(nodes, start=1):
        aliases[f"layer_{number}"] = aliases[f"layer_{number}/output"] = name
        if isinstance(layer, InvertedResidual):
            parts = layer.parts()
            aliases |= {
                f"layer_{number}/{slim}": f"{name}_{part}" for slim, part in _SLIM_PARTS.items() if part in parts
            }
            aliases |= {f"{name}_{keras}": f"{name}_{part}" for keras, part in _KERAS_PARTS.items() if part in parts}
    return aliases
