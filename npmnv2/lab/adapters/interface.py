"""The interface of adapters."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from npmnv2.errors import MissingPackageError
from npmnv2.kernels import Array
from npmnv2.lab.alignment import Tap


class Adapter:
    """One side of a comparison.

    Attributes
    ----------
    label : str
        What reports call it.
    model : model or None
        The same network here, where its weights can be read: it prepares photos and, as the reference, says what each
        layer should have computed.
    scales : dict of str to float
        Steps of quantized values by endpoint, where the adapter knows our names.
    """

    runtime: ClassVar[str] = ""
    label: str = ""
    model: Any = None
    scales: Mapping[str, float] = {}

    def taps(self, x: Array) -> list[Tap]:
        """Run on `x` (N, H, W, C), real numbers, and return every value that can be seen, in order."""
        raise NotImplementedError


def framework(module: str, package: str) -> Any:
    """Import a framework.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingPackageError(f"{package} is needed to run this side: pip install {package}") from None
