"""The host half of the compiled kernels: packs weights, plans memory, builds programs and runs them.

Nothing here imports Numba or llvmlite when it is loaded; what is compiled lies in `npmnv2.kernels.device`.
"""
