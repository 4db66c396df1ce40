"""The interpreter: one compiled function that walks through the steps of a network."""

from __future__ import annotations

import numpy as np

from ..host.steps import ADD, ARENA, CONV, COPY, DENSE, FILTER, POINTWISE, POOL
from .add import run_add, run_copy
from .addressing import ONE64, ZERO64
from .conv import run_conv
from .dense import run_dense
from .inverted_residual import run_filter
from .jit import njit
from .pointwise import run_pointwise
from .pool import run_pool
from .resize import run_resize
from .threads import barrier, in_parallel


@njit(cached=False)
def run_step(step, bases, worker, workers):
    """Run the piece of one worker of one step."""
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


@njit(cached=False)
def run(steps, tail, buffers, strides, batch, sync, worker, workers):
    """Run the piece of one worker of a whole program."""
    # Whole images to each worker as far as they go round; then all of them work on one image at a time, in the arena of
    # the first worker.
    alone = batch - batch % workers
    for image in range(worker, alone, workers):
        bases = bases_of(buffers, strides, worker, worker, image)
        for i in range(len(steps)):
            run_step(steps[i], bases, ZERO64, ONE64)
    barrier(sync, workers)
    for image in range(alone, batch):
        bases = bases_of(buffers, strides, worker, ZERO64, image)
        for i in range(len(steps)):
            run_step(steps[i], bases, worker, workers)
            barrier(sync, workers)
    # What has no height and width any more runs once for the whole batch.
    bases = bases_of(buffers, strides, worker, ZERO64, ZERO64)
    for i in range(len(tail)):
        run_step(tail[i], bases, worker, workers)
        barrier(sync, workers)


@njit(cached=False)
def bases_of(buffers, strides, worker, arena, image):
    """Addresses of all buffers for one image, in the arena of worker `arena`."""
    bases = np.empty(len(strides), np.int64)
    for i in range(len(strides)):
        bases[i] = buffers[worker, i] + image * strides[i]
    bases[ARENA] = buffers[arena, ARENA]
    return bases


# Called as run_on_all(crew, steps, tail, buffers, strides, batch, crew).
run_on_all = in_parallel(run)
