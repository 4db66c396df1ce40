"""From an operation number to the function that does it, for steps on float32."""

from __future__ import annotations

import functools
from typing import Any

from ..host.steps import ADD, CONV, COPY, DENSE, FILTER, POINTWISE, POOL
from ..host.target import Target
from .add import make_run_add, run_copy
from .conv import make_convolve_staged, make_run_conv
from .dense import make_run_dense
from .inverted_residual import make_run_filter, make_walk
from .jit import njit
from .pointwise import make_run_pointwise, panels
from .pool import make_run_pool
from .resize import make_run_resize
from .simd import FLOATS


@functools.cache
def make_run_step(target: Target) -> Any:
    """Return the function that runs the piece of one worker of one step.

    It is called as ``run_step(step, bases, worker, workers)``: a record, the addresses of all buffers, and which of how
    many workers this is.
    """
    run_filter, run_conv = (
        make_run_filter(make_walk(target)),
        make_run_conv(make_convolve_staged(target, FLOATS), panels, 2 * target.vector_bytes, target.name),
    )
    run_pointwise = make_run_pointwise(target, FLOATS)
    run_pool, run_add, run_dense = make_run_pool(target, FLOATS), make_run_add(target), make_run_dense(target)
    run_resize = make_run_resize(target)

    @njit(cached=False, variant=target.name)
    def run_step(step, bases, worker, workers):
        if step.operation == FILTER:
            run_filter(step, bases, worker, workers)
        elif step.operation == POINTWISE:
            run_pointwise(step, bases, worker, workers)
        elif step.operation == CONV:
            run_conv(step, bases, worker, workers)
        elif step.operation == POOL:
            run_pool(step, bases, worker, workers)
        elif step.operation == ADD:
            run_add(step, bases, worker, workers)
        elif step.operation == DENSE:
            run_dense(step, bases, worker, workers)
        elif step.operation == COPY:
            run_copy(step, bases, worker, workers)
        else:
            run_resize(step, bases, worker, workers)

    return run_step
