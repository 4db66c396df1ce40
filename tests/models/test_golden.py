"""Logits of seeded networks, committed as numbers: what was computed once is computed for ever.

Weights and image come from raw bits of PCG64 by exact arithmetic, so they are the same with every NumPy. The compiled
kernels must give the same bits on every processor and by every engine; NumPy must agree to its rounding. After a wanted
change of the arithmetic (docs/numerics.md) print the numbers anew: ``python tests/models/test_golden.py``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from npmnv2.kernels.host.engine import find_engine

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation

NETWORKS = {
    "classifier": (
        MobileNetV2ForImageClassification,
        MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=8),
    ),
    "segmenter": (
        MobileNetV2ForSemanticSegmentation,
        MobileNetV2Config(depth_multiplier=0.35, image_size=96, output_stride=16, num_labels=4, decoder=True),
    ),
}


def uniform(generator: np.random.PCG64, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) with 24 bits each."""
    bits = generator.random_raw(math.prod(shape)) >> np.uint64(40)
    return (bits.astype(np.float64) * 2.0**-23 - 1).astype(np.float32).reshape(shape)


def weights_of(plan) -> dict[str, np.ndarray]:
    generator = np.random.PCG64(0)
    return {name: _weight(generator, name, shape) for name, shape in plan.parameter_shapes().items()}


def _weight(generator: np.random.PCG64, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = uniform(generator, shape)
    if name.endswith("/kernel"):
        inputs = math.prod(shape[:2] if name.endswith("depthwise/kernel") else shape[:-1])
        return values * np.float32(math.sqrt(4.5 / inputs))  # the variance of `values` is 1/3: unit gain and half
    if name.endswith(("/gamma", "/moving_variance")):
        return 1 + values / 2
    return values / 4


def logits(name: str, **options) -> np.ndarray:
    """Eight numbers of the network's result."""
    kind, config = NETWORKS[name]
    model = kind(config, weights_of(kind.build(config)), **options)
    x = uniform(np.random.PCG64(1), (1, 96, 96, 3))
    values = model.run(x, [model.plan.nodes[-1].name])
    (result,) = values.values()
    return result.ravel()[:: result.size // 8][:8]


# name: (the compiled kernels' float32, NumPy's float64)
GOLDEN = {
    "classifier": (
        [1.3637421, -3.01773, -1.9587972, -3.58914, 1.7815453, 2.662932, -0.51503336, 5.4745502],
        [
            1.3637458429161085, -3.017730750523213, -1.9587992690012834, -3.589141831859538,
            1.7815438935613195, 2.6629373005804973, -0.5150359384918116, 5.474550458227775,
        ],
    ),
    "segmenter": (
        [-0.5291358, -0.0013448185, -0.06557198, -0.19092675, -0.27618977, -0.5159199, -0.18349628, -0.09871215],
        [
            -0.5291359849343943, -0.0013471568057905614, -0.06557359356691812, -0.19092816069522314,
            -0.276188836584786, -0.515919181826703, -0.18349579480469042, -0.09871179021728635,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.skipif(find_engine() is None, reason="needs compiled kernels")
def test_compiled_bits(name: str) -> None:
    np.testing.assert_array_equal(logits(name, backend="compiled"), np.array(GOLDEN[name][0], np.float32))


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_in_double_precision(name: str) -> None:
    # Empirical: sums in another order differ by a few 1e-15 of the largest logit.
    scale = np.abs(GOLDEN[name][1]).max()
    np.testing.assert_allclose(logits(name, dtype="float64"), GOLDEN[name][1], rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_in_single_precision(name: str) -> None:
    scale = np.abs(GOLDEN[name][1]).max()
    np.testing.assert_allclose(logits(name, backend="numpy"), GOLDEN[name][1], rtol=0, atol=1e-5 * scale)


def test_single_and_double_are_of_one_network() -> None:
    for single, double in GOLDEN.values():
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())
        assert np.ptp(double) > 0.1


if __name__ == "__main__":
    for name in NETWORKS:
        single, double = logits(name, backend="compiled"), logits(name, dtype="float64")
        print(f'    "{name}": (')
        print(f"        {[float(str(v)) for v in single]},")
        print(f"        {[float(v) for v in double]},")
        print("    ),")
