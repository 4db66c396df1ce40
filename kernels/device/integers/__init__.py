"""Primitives of integer kernels: unsigned bytes times signed bytes, summed in 32 bits, brought back to bytes."""
