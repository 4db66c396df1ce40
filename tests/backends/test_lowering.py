"""Lowered networks: every endpoint right, and the same bits whatever else is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from engines import require_engine
from networks import PLANS, folded_weights, images

from npmnv2.backends.compiled import CompiledBackend
from npmnv2.backends.numpy import NumpyBackend

# Leaves a last map of 2×4 pixels, and one row of them to a pool with a window of 2.
X = images(2, 64, 97)
ENGINE = require_engine()


@pytest.fixture(scope="module", params=PLANS)
def network(request):
    """A plan, its folded weights, and all endpoints for two images, with every block open and nothing fused."""
    plan = PLANS[request.param]
    weights = folded_weights(plan)
    return plan, weights, CompiledBackend(ENGINE).compile(plan, weights, 1)(X, plan.endpoints)


def test_endpoints_agree_with_numpy_in_float64(network) -> None:
    plan, weights, found = network
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    expected = NumpyBackend().compile(plan, weights)(X.astype(np.float64), plan.endpoints)
    for name, value in found.items():
        assert value.shape == expected[name].shape, name
        # Empirical: rounding errors of up to 60 layers, each at 2⁻²⁴ of its largest values.
        limit = 2.0**-24 * 4000 * np.abs(expected[name]).max()
        assert np.abs(value - expected[name]).max() < limit, name
        assert np.ptp(value) > 0, f"{name} is dead"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_endpoint_alone_has_the_same_bits(network, n_threads) -> None:
    plan, weights, expected = network
    executable = CompiledBackend(ENGINE).compile(plan, weights, n_threads)
    for name in plan.endpoints:
        np.testing.assert_array_equal(executable(X, [name])[name], expected[name], name)


def test_an_endpoint_beside_the_last_one_changes_no_bit(network) -> None:
    plan, weights, expected = network
    executable, last = CompiledBackend(ENGINE).compile(plan, weights, 1), plan.nodes[-1].name
    for name in plan.endpoints:
        found = executable(X, [name, last])
        np.testing.assert_array_equal(found[name], expected[name], name)
        np.testing.assert_array_equal(found[last], expected[last], f"{last} beside {name}")
