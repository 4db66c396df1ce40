# Checkout only, not shipped: lets type checkers and editors find npmnv2.kernels, whose files are in ../kernels.
from kernels import *
