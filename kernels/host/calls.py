"""What compiled code is told of a call: one record, whose numbers are addresses and counts."""

from __future__ import annotations

import numpy as np

# One row per worker: `buffers` are the addresses of all buffers for the first image, `bases` those for the image at
# work. `strides` lead from an image to the next. `clock` is 0, or the function that tells the time: then every share of
# every step leaves a SPAN in `spans`.
CALL = np.dtype(
    [
        (name, np.int64)
        for name in (
            "steps", "n_steps", "epilogue", "n_epilogue", "buffers", "strides", "bases", "n_buffers", "batch", "clock",
            "spans",
        )
    ]
)  # fmt: skip
# When a share of a step began and ended, as the C library's ``struct timespec``: seconds and nanoseconds.
SPAN = np.dtype([("begin", np.int64, 2), ("end", np.int64, 2)])
