"""Names for the arrays that kernels take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# float32, or float64 where the NumPy kernels serve as the reference.
Array = NDArray[np.floating[Any]]
