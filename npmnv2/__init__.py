"""MobileNetV2 in pure NumPy with Numba kernels."""

__version__ = "0.1.0"
