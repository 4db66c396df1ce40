"""Weights by name: registry, download and cache."""

# The checkpoint that comes with the package, and that is used where no other is named.
PACKAGED = "mobilenet_v2_1.0_224_quant"
