"""The operations of `npmnv2.kernels` in Numba."""
