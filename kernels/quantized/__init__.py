"""The operations on integers, one file per concept: NumPy definitions that give TensorFlow Lite's results bit by bit.

A quantized tensor holds 8-bit numbers q that stand for ``real = scale · (q − zero_point)``. Sums of products are exact
integers; what differs between runtimes is how a sum is brought back to eight bits. So every function that rounds takes
the name of an arithmetic:

============= =========================================================================================================
``xnnpack``   LiteRT's default on x86: one multiplication in float32, ties to even
``reference`` TensorFlow Lite's reference kernels and microcontrollers: gemmlowp's multiplier, rounded twice
============= =========================================================================================================

The third arithmetic, ``fakequant``, stays in float: `fake_quantize` after every operation of the float kernels.
"""

from .add import add, concat, concat_rows
from .conv import conv, depthwise, largest_sum
from .convert import dequantize, quantize, requantize, requantize_table
from .fake_quant import FakeQuantRange, fake_quantize
from .fixed_point import multiply, quantize_multiplier, rounding_shift, saturating_multiply
from .pool import average_pool, mean
from .rescale import clip_range, rescale, saturate
from .resize import resize_bilinear
from .softmax import logistic, softmax
from .tensor import ARITHMETICS, Arithmetic, Integers, TensorQuantization

__all__ = [
    "ARITHMETICS",
    "Arithmetic",
    "FakeQuantRange",
    "Integers",
    "TensorQuantization",
    "add",
    "average_pool",
    "clip_range",
    "concat",
    "concat_rows",
    "conv",
    "depthwise",
    "dequantize",
    "fake_quantize",
    "largest_sum",
    "logistic",
    "mean",
    "multiply",
    "quantize",
    "quantize_multiplier",
    "requantize",
    "requantize_table",
    "rescale",
    "resize_bilinear",
    "rounding_shift",
    "saturate",
    "saturating_multiply",
    "softmax",
]
