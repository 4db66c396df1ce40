"""What the integers of a tensor stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Arithmetic = Literal["xnnpack", "reference"]
ARITHMETICS: tuple[Arithmetic, ...] = ("xnnpack", "reference")


@dataclass(frozen=True)
class TensorQuantization:
    """Affine quantization: ``real = scale · (q − zero_point)``.

    Attributes
    ----------
    scale : tuple of float
        One for the whole tensor, or one per output channel. All are float32 numbers.
    zero_point : int
        The integer that stands for 0.
    dtype : {"uint8", "int8"}
    activation : {"linear", "relu", "relu6"}
        What limits the values beyond the range of the type.
    """

    scale: tuple[float, ...]
    zero_point: int
    dtype: str = "uint8"
    activation: str = "linear"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer of the type."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def scales(self) -> NDArray[np.float32]:
        """The scales as float32: (1,) or (C,)."""
        return np.array(self.scale, np.float32)

    @property
    def real_range(self) -> tuple[float, float]:
        """Smallest and largest number that the integers can stand for (of the largest scale)."""
        low, high = self.limits
        scale = max(self.scale)
        return scale * (low - self.zero_point), scale * (high - self.zero_point)

    def centered(self, q: Integers, dtype: Any = np.float32) -> NDArray[Any]:
        """``q − zero_point`` in another type, exactly."""
        x = q.astype(dtype)
        if self.zero_point:
            x -= x.dtype.type(self.zero_point)
        return x
