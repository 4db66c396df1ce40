# Checkout only, not shipped: lets type checkers and editors find npmnv2.weights_tools, whose files are in ../weights_tools.
from weights_tools import *
