"""The interpreter of programs, and the compiled function through which threads enter it.

A call of the host falls into items, and an item into shares. Whole images go to one worker each as far as they go
round; then all workers share the steps of one image at a time, in the arena of the first; then those of what has no
height and width any more, once for the whole batch.
"""

from __future__ import annotations

from ..host import steps
from ..host.bound_program import CALL
from ..host.steps import ADD, CONV, COPY, DENSE, FILTER, POINTWISE, POOL
from ..host.thread_team import MAX_SHARES
from .add import run_add, run_copy
from .addressing import ONE64, ZERO64
from .conv import run_conv
from .dense import run_dense
from .inverted_residual import run_filter
from .jit import njit
from .machine import make_record_at, numbers_at
from .pointwise import run_pointwise
from .pool import run_pool
from .resize import run_resize
from .thread_team import make_entry

_STEP_BYTES = steps.STEP.itemsize
_call_at, _step_at = make_record_at(CALL), make_record_at(steps.STEP)


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
def _image_items(call, workers):
    """Whole images for one worker each, and the items that they make."""
    images = call.batch - call.batch % workers
    return images, (images + MAX_SHARES - 1) // MAX_SHARES


@njit(cached=False)
def count_items(address, workers):
    """Into how many items a call falls."""
    call = _call_at(address)
    images, items = _image_items(call, workers)
    return items + (call.batch - images) * call.n_steps + call.n_tail


@njit(cached=False)
def count_shares(address, workers, item):
    """Into how many shares an item falls."""
    images, items = _image_items(_call_at(address), workers)
    return min(images - item * MAX_SHARES, MAX_SHARES) if item < items else workers


@njit(cached=False)
def find_bases(call, worker, arena, image):
    """Work out the addresses of all buffers for one image: scratch of a worker, arena of the same or the first."""
    n_buffers = call.n_buffers
    buffers, strides = numbers_at(call.buffers), numbers_at(call.strides)
    bases = numbers_at(call.bases + 8 * worker * n_buffers)
    for i in range(n_buffers):
        bases[i] = buffers[worker * n_buffers + i] + image * strides[i]
    bases[steps.ARENA] = buffers[arena * n_buffers + steps.ARENA]
    return bases


@njit(cached=False)
def run_share(address, workers, item, share, worker):
    """Compute one share of an item."""
    call = _call_at(address)
    images, items = _image_items(call, workers)
    if item < items:
        bases = find_bases(call, worker, worker, item * MAX_SHARES + share)
        for i in range(call.n_steps):
            run_step(_step_at(call.steps + i * _STEP_BYTES), bases, ZERO64, ONE64)
        return
    item -= items
    in_body = (call.batch - images) * call.n_steps
    if item < in_body:
        bases = find_bases(call, worker, 0, images + item // call.n_steps)
        step = call.steps + item % call.n_steps * _STEP_BYTES
    else:
        bases = find_bases(call, worker, 0, 0)
        step = call.tail + (item - in_body) * _STEP_BYTES
    run_step(_step_at(step), bases, share, workers)


enter = make_entry(count_items, count_shares, run_share)
