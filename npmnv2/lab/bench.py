"""A quick look at this machine: compile the kernels, time the network.

For comparisons with other runtimes see `benchmarks/` in the repository.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from npmnv2.backends.selection import check_precision, get_backend
from npmnv2.errors import ArgumentError
from npmnv2.kernels.host.cpus import default_threads
from npmnv2.kernels.host.engine import find_bfloat16_engine, find_engine, find_integer_engine
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.lab.timing import median_seconds
from npmnv2.models.classification import MobileNetV2ForImageClassification
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.config import MINIMUM_IMAGE_SIZE, MobileNetV2Config

__all__ = ["bench", "warmup"]


def warmup(n_threads: int | None = None, precision: str = "float32") -> str:
    """Compile the kernels, so that the next process finds them in the cache; return a sentence about it.

    Those of floats and those of integers in XNNPACK's arithmetic; with the `precision` "bf16" those of bfloat16, too.

    Raises
    ------
    ArgumentError
        If `n_threads` is impossible, or there is no such precision on this processor.
    MissingPackageError
        If Numba is not installed.
    """
    default_threads(n_threads)  # refuses, before a missing Numba is blamed
    start = time.perf_counter()
    if check_precision(precision) == "bf16":
        get_backend("numba", precision=precision)  # refuses, before a minute has gone by
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=MINIMUM_IMAGE_SIZE)
    _runner(config, "numba", 1, n_threads)()
    # Quantized networks have kernels of their own; nearly all run in this arithmetic, the one in the package too.
    engines = [find_integer_engine("xnnpack", "numba")]
    if precision == "bf16":
        engines.append(find_bfloat16_engine("numba"))
    for engine in engines:
        assert engine is not None
        engine.prepare()
    from npmnv2.kernels.device.jit import cache_folder

    folder = cache_folder()
    kept = f"kept in {folder}" if folder else "not kept: no folder can be written to; set NUMBA_CACHE_DIR"
    return f"Kernels ready after {time.perf_counter() - start:.1f} s, {kept}"


def bench(batch: int = 1, n_threads: int | None = None, seconds: float = 2.0) -> str:
    """Time MobileNetV2 1.0 at 224×224 with random weights; return a table with a line per backend.

    Raises
    ------
    ValueError
        If `batch` is below 1, or `n_threads` is impossible.
    """
    if batch < 1:
        raise ArgumentError(f"batch (={batch}) must be at least 1, got {batch}")
    config = MobileNetV2Config(num_labels=1001)
    backends = ["compiled"] if find_engine() else []
    lines = [f"{'backend':8} {'ms/image':>9} {'images/s':>9} {'GFLOP/s':>8}   (MobileNetV2 1.0 224, batch {batch})"]
    for backend in [*backends, "numpy"]:
        per_image = median_seconds(_runner(config, backend, batch, n_threads), seconds) / batch
        speed = 2e-9 * MobileNetV2ForImageClassification.build(config).multiply_adds() / per_image
        lines.append(f"{backend:8} {per_image * 1e3:9.2f} {1 / per_image:9.1f} {speed:8.1f}")
    return "\n".join(lines)


def _runner(config: MobileNetV2Config, backend: str, batch: int, n_threads: int | None) -> Callable[[], object]:
    plan = MobileNetV2ForImageClassification.build(config)
    model = MobileNetV2ForImageClassification(config, unit_gain_weights(plan), backend=backend, n_threads=n_threads)
    images = np.random.default_rng(0).uniform(-1, 1, (batch, config.image_size, config.image_size, 3))
    x = images.astype(np.float32)
    return lambda: model.run(x, (CLASSIFIER,))
