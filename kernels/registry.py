"""The list of all kernels. Tests and benchmarks walk it, so a kernel that is here is checked and timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .add import add, concat
from .conv import conv
from .dense import dense, softmax
from .depthwise import depthwise
from .pointwise import pointwise
from .pool import average_pool, global_average_pool
from .resize import resize_bilinear


class Kernel(NamedTuple):
    """One operation.

    Attributes
    ----------
    name : str
        Name of the function in both backends.
    numpy : callable
        The definition.
    compiled : bool
        Whether `npmnv2.kernels.host.arrays` has a function of this name and signature. What has none runs on NumPy.
    """

    name: str
    numpy: Callable[..., Any]
    compiled: bool = True


REGISTRY: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("conv", conv),
        Kernel("pointwise", pointwise),
        Kernel("depthwise", depthwise),
        Kernel("add", add),
        Kernel("concat", concat),
        Kernel("average_pool", average_pool),
        Kernel("global_average_pool", global_average_pool),
        Kernel("dense", dense),
        # Once per image over a thousand numbers: nothing to gain.
        Kernel("softmax", softmax, compiled=False),
        Kernel("resize_bilinear", resize_bilinear),
    )
}
