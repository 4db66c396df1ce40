"""Adapters for products of bfloat16: ours, and OpenVINO's, which no other of the runtimes has on such processors."""

from __future__ import annotations

import numpy as np
from network import Network, Weights

from npmnv2.errors import ArgumentError

from .adapters import OURS, OURS_IN_FLOAT, OpenVino, OpenVinoStreams, Ours, Runtime, Unsuitable


class OursInBfloat16(Ours):
    """npmnv2 with ``precision="bf16"``."""

    precision = "bf16"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        try:
            super().__init__(network, weights, images, threads)
        except ArgumentError as error:
            raise Unsuitable(str(error)) from None


class OpenVinoBfloat16(OpenVino):
    """OpenVINO with the hint to compute in bfloat16, as it does by itself on such processors."""

    precision = "bf16"


class OpenVinoBfloat16Streams(OpenVinoBfloat16, OpenVinoStreams):
    """The same with the hint for throughput: the batch is split between two streams."""


RUNTIMES: dict[str, type[Runtime]] = {
    "openvino": OpenVinoBfloat16,
    "openvino, 2 streams": OpenVinoBfloat16Streams,
    OURS_IN_FLOAT: Ours,
    OURS: OursInBfloat16,
}
