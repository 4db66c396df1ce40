"""DeepLab's segmentation heads for MobileNetV2, as data.

Both look at the last block's output, a map of 320 channels at the output stride, and leave the 1280-channel
convolution out:

    block_16 ─┬─ mean over all pixels ─ image_pooling ─ spread out again ─┐
              ├─ aspp0 ───────────────────────────────────────────────────┼─ concat_projection ─ logits_semantic
              └─ aspp1 … aspp3, 3×3 with dilation, where asked for ───────┘

DeepLabV3+ refines the projection with a map at stride 4 before the logits:

    concat_projection ─ resize to stride 4 ───────────────┐
    block_2_depthwise ─ decoder_feature_projection0 ──────┴─ decoder_conv0 ─ decoder_conv1 ─ logits_semantic

Unlike the backbone, the head has ReLU instead of ReLU6, 256 channels at any depth multiplier, and a different epsilon
in its batch norms.

Sources: Chen et al., *Rethinking Atrous Convolution* (arXiv 1706.05587) and *Encoder-Decoder with Atrous Separable
Convolution* (arXiv 1802.02611); research/deeplab/model.py of tensorflow/models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.network.architecture import LAST_BLOCK, attach, backbone
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Concat, Conv, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import Node, Plan

LOGITS = "logits_semantic"
IMAGE_POOL = "image_pool"

FILTERS = 256
DECODER_FILTERS = 48
HEAD_EPSILON = 1e-5

# slim's layer_4/depthwise_output, the widest map at stride 4.
LOW_LEVEL = "block_2_depthwise"


@dataclass(frozen=True)
class DeepLabHead:
    """The choices that make a DeepLab head.

    Attributes
    ----------
    classes : int
        Background included where the data set has one.
    atrous_rates : tuple of int
        Dilations of the branches ``aspp1``, ``aspp2``, …; none in the published MobileNetV2 checkpoints.
    decoder : bool
        DeepLabV3+ instead of DeepLabV3.
    tf_padding : bool
        How the 3×3 convolutions pad. With stride 1 both ways are the same.
    """

    classes: int
    atrous_rates: tuple[int, ...] = ()
    decoder: bool = False
    tf_padding: bool = True

    @classmethod
    def from_config(cls, config: MobileNetV2Config) -> DeepLabHead:
        """The head that a configuration asks for.

        Raises
        ------
        ValueError
            If there is nothing to tell apart: `num_labels` is 0.
        """
        if config.classes < 1:
            raise ArgumentError(f"num_labels (={config.classes}) must be at least 1 for segmentation")
        return cls(config.classes, config.atrous_rates, config.decoder, config.tf_padding)

    def attach(self, plan: Plan) -> Plan:
        """Return `plan` with this head after its last block."""
        return attach(plan, *self.nodes())

    def nodes(self) -> Iterator[Node]:
        """The head's nodes in order; names are those of the published variables."""
        yield from self._encoder()
        last = "concat_projection"
        if self.decoder:
            yield from self._decoder(last)
            last = "decoder_conv1_pointwise"
        yield Node(LOGITS, Conv(filters=self.classes, kernel=1, activation="linear", norm=None), (last,))

    def _encoder(self) -> Iterator[Node]:
        yield Node(IMAGE_POOL, GlobalAveragePool(keep_dims=True), (LAST_BLOCK,))
        yield Node("image_pooling", _pointwise(), (IMAGE_POOL,))
        yield Node("image_pooling_spread", ResizeLike(), ("image_pooling", LAST_BLOCK))
        yield Node("aspp0", _pointwise(), (LAST_BLOCK,))
        branches = ["image_pooling_spread", "aspp0"]
        for number, rate in enumerate(self.atrous_rates, start=1):
            yield from self._separable(f"aspp{number}", LAST_BLOCK, rate)
            branches.append(f"aspp{number}_pointwise")
        yield Node("aspp_concat", Concat(), tuple(branches))
        yield Node("concat_projection", _pointwise(), ("aspp_concat",))

    def _decoder(self, encoded: str) -> Iterator[Node]:
        yield Node("decoder_feature_projection0", _pointwise(DECODER_FILTERS), (LOW_LEVEL,))
        yield Node("decoder_resized", ResizeLike(), (encoded, "decoder_feature_projection0"))
        yield Node("decoder_concat", Concat(), ("decoder_resized", "decoder_feature_projection0"))
        yield from self._separable("decoder_conv0", "decoder_concat")
        yield from self._separable("decoder_conv1", "decoder_conv0_pointwise")

    def _separable(self, name: str, source: str, dilation: int = 1) -> Iterator[Node]:
        """A 3×3 convolution split into depthwise and pointwise, each with its own norm and ReLU."""
        depthwise = Depthwise(dilation=dilation, tf_padding=self.tf_padding, **_HEAD)
        yield Node(f"{name}_depthwise", depthwise, (source,))
        yield Node(f"{name}_pointwise", _pointwise(), (f"{name}_depthwise",))


_HEAD: dict[str, Any] = {"activation": "relu", "norm": HEAD_EPSILON}


def _pointwise(filters: int = FILTERS) -> Conv:
    return Conv(filters=filters, kernel=1, **_HEAD)


def segmenter(config: MobileNetV2Config) -> Plan:
    """The backbone up to its last block, and DeepLab's head."""
    return DeepLabHead.from_config(config).attach(backbone(config).until(LAST_BLOCK))


def _voc(**fields: Any) -> MobileNetV2Config:
    return MobileNetV2Config(**{"image_size": 513, "output_stride": 16, "num_labels": 21, **fields})


# DeepLab's rule of widths for multipliers other than 1.
_NARROW: dict[str, Any] = {"depth_multiplier": 0.5, "depth_divisible_by": 1, "min_depth": 1}

PUBLISHED = {
    "deeplabv3_mnv2_pascal_train_aug": _voc(),
    "deeplabv3_mnv2_pascal_trainval": _voc(output_stride=8),
    "deeplabv3_mnv2_dm05_pascal_trainaug": _voc(**_NARROW),
    "deeplabv3_mnv2_dm05_pascal_trainval": _voc(**_NARROW, output_stride=8),
    "deeplabv3_mnv2_cityscapes_train": _voc(image_size=1025, num_labels=19),
    "deeplabv3_mnv2_ade20k_train": _voc(image_size=257, num_labels=151, decoder=True),
}
"""Configurations of the published checkpoints by DeepLab's names, at the output stride that each is quoted for."""
