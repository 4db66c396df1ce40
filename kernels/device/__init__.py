"""The device half of the compiled kernels: what Numba compiles. Importing this package imports Numba."""
