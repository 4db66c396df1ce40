"""The interface of backends, the seam between architecture and arithmetic.

A backend compiles a plan and its folded weights to an executable. An executable takes images and the names of
endpoints, computes only what these endpoints need, and returns their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from npmnv2.kernels import Array
from npmnv2.network.plan import Plan
from npmnv2.results.profile import Timing

Weights = Mapping[str, Array]


class Executable(Protocol):
    """A network that is ready to run."""

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) and return the values of `outputs` by the names that were given."""

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and measure the time of every node."""


class Backend(Protocol):
    """A way to run plans."""

    name: str

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> Executable:
        """Prepare `plan` with folded weights (see `npmnv2.weights.checkpoint.fold_batch_norms`)."""
