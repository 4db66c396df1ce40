"""Batch norms that change nothing."""

from __future__ import annotations

import numpy as np
from npmnv2.weights_tools.norms import unfolded
from weight_files import assert_same_weights, folded, random_checkpoint

from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import check_weights, fold_batch_norms


def test_folded_layers_get_batch_norms_that_change_nothing() -> None:
    checkpoint = folded(random_checkpoint())
    plan = plan_for(checkpoint.config, checkpoint.weights)
    weights = unfolded(checkpoint.weights, checkpoint.config)
    assert set(weights) == set(plan.parameter_shapes())
    check_weights(plan, weights)
    before, after = (fold_batch_norms(plan, each, np.float64) for each in (checkpoint.weights, weights))
    for name, value in before.items():
        # 1 − ε is rounded to float32, so γ/√(σ² + ε) is 1 up to half a unit of that.
        np.testing.assert_allclose(after[name], value, rtol=2**-25)


def test_layers_with_batch_norms_keep_them() -> None:
    checkpoint = random_checkpoint()
    assert_same_weights(unfolded(checkpoint.weights, checkpoint.config), checkpoint.weights)
