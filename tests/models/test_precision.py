"""Every layer of a network in float32 against the same layer in float64, within the bound on its rounding errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bounds import assert_within
from engines import BACKENDS

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.lab.numerics import gamma
from npmnv2.network.layers import Add, Conv, Dense, Depthwise, GlobalAveragePool
from npmnv2.network.plan import IMAGE
from npmnv2.weights.checkpoint import fold_batch_norms

CONFIG = MobileNetV2Config(depth_multiplier=0.35, num_labels=5, initializer_range=0.3)


def terms(layer, kernel):
    """How many products every output is the sum of."""
    if isinstance(layer, Depthwise):
        return kernel.shape[0] * kernel.shape[1]
    if isinstance(layer, (Conv, Dense)):
        return int(np.prod(kernel.shape[:-1]))
    if isinstance(layer, GlobalAveragePool):
        return 0  # sums in double precision; the one rounding of the mean is counted below
    assert isinstance(layer, Add)
    return 1


def linear(layer):
    """The layer without its activation, which shrinks errors (a clip) and so never adds to the bound."""
    return replace(layer, activation="linear") if isinstance(layer, (Conv, Depthwise)) else layer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", [CONFIG, CONFIG.replace(output_stride=8, tf_padding=False)])
@pytest.mark.parametrize("size", [(64, 64), (75, 50), (33, 97)])
def test_every_layer_is_within_its_bound(config, size, backend):
    model = MobileNetV2ForImageClassification(config, seed=0, backend=backend)
    folded = fold_batch_norms(model.plan, model.weights)
    exact = NumpyExecutable(model.plan, {name: w.astype(np.float64) for name, w in folded.items()})
    magnitude = NumpyExecutable(model.plan, {name: np.abs(w).astype(np.float64) for name, w in folded.items()})
    x = np.random.default_rng(1).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    values = {IMAGE: x, **model.trace(x)}
    for part in model.plan.parts():
        # The layer's own float32 input: errors of earlier layers are those layers' affair.
        inputs = [values[name].astype(np.float64) for name in part.inputs]
        reference = exact.compute(part, *inputs)
        assert np.ptp(reference) > 0, f"{part.name} is dead"
        absolute = magnitude.compute(part._replace(layer=linear(part.layer)), *map(np.abs, inputs))
        count = terms(part.layer, folded.get(f"{part.name}/kernel"))
        # One rounding more for the bias or the division, one for the store.
        assert_within(values[part.name], reference, gamma(count + 2) * absolute, part.name)
