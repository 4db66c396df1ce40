"""Makes the steps of a program on maps of bfloat16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import NO_CLIP, Array, Clip, bfloat16

from .build import Builder, Packed
from .memory import Constants


class Bfloat16Builder(Builder):
    """Makes steps on bfloat16, see `npmnv2.kernels.bfloat16`, for one target.

    The caller's arrays are float32. Weights of products are pairs of bfloat16, all others float32.
    """

    reads_words = shortens = True

    def pack_product(self, constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
        """Pack the weights of a convolution (…, Cin, Cout) or of a dense layer; Cin is even."""
        pairs = pair_rows(kernel.reshape(-1, kernel.shape[-1]))
        return super().pack_product(constants, pairs, bias, clip)


def pair_rows(kernel: Array) -> NDArray[np.float32]:
    """Round a matrix (K, N), K even, to bfloat16, and put two rows in one: (K/2, N) words whose lower half comes first.

    The words are called floats, so that `packing.pack_matrix` takes them.
    """
    first, second = (bfloat16.bits(half).astype(np.uint32) for half in (kernel[::2], kernel[1::2]))
    return (first | second << 16).view(np.float32)
