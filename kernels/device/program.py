"""The interpreter of programs, and the compiled function through which threads enter it.

A call of the host falls into items, and an item into shares. Whole images go to one worker each as far as they go
round; then all workers share the steps of one image at a time, in the arena of the first; then those of what has no
height and width any more, once for the whole batch.
"""

from __future__ import annotations

import functools
from typing import Any

from ..host import steps
from ..host.calls import CALL, SPAN
from ..host.target import BFLOAT16_BYTES, IntegerTarget, Target
from ..host.thread_team import MAX_SHARES
from .addressing import ONE64, ZERO64
from .jit import njit
from .machine import call_at, make_record_at, numbers_at
from .thread_team import make_entry

_STEP_BYTES, _SPAN_BYTES = steps.STEP.itemsize, SPAN.itemsize
_END_OF_SPAN = SPAN["begin"].itemsize
# What `timespec_get` is asked for: the time of day.
_TIME_UTC = 1
_call_at, _step_at = make_record_at(CALL), make_record_at(steps.STEP)


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
    return items + (call.batch - images) * call.n_steps + call.n_epilogue


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


def _make_run_step(target: Target | IntegerTarget) -> Any:
    """Kernels are imported when they are needed."""
    if isinstance(target, IntegerTarget):
        from .integers.operations import make_run_step as make_run_byte_step

        return make_run_byte_step(target)
    if target.map_bytes == BFLOAT16_BYTES:
        from .bfloat16 import make_run_step as make_run_short_step

        return make_run_short_step(target)
    from .operations import make_run_step

    return make_run_step(target)


@functools.cache
def make_enter(target: Target | IntegerTarget) -> Any:
    """Return the function through which threads enter, to run a call or to serve a team; see `make_entry`."""
    run_step = _make_run_step(target)

    @njit(cached=False, variant=target.name)
    def run_numbered(call, number, bases, share, workers):
        """Run a share of a step, and note when if the host wants to know; the epilogue's numbers follow the body's."""
        step = call.steps + number * _STEP_BYTES
        if number >= call.n_steps:
            step = call.epilogue + (number - call.n_steps) * _STEP_BYTES
        span = call.spans + (number * workers + share) * _SPAN_BYTES
        if call.clock != 0:
            call_at(call.clock, span, _TIME_UTC)
        run_step(_step_at(step), bases, share, workers)
        if call.clock != 0:
            call_at(call.clock, span + _END_OF_SPAN, _TIME_UTC)

    @njit(cached=False, inline=True, variant=target.name)
    def run_share(address, workers, item, share, worker):
        """Compute one share of an item."""
        call = _call_at(address)
        images, items = _image_items(call, workers)
        if item < items:
            bases = find_bases(call, worker, worker, item * MAX_SHARES + share)
            for number in range(call.n_steps):
                run_numbered(call, number, bases, ZERO64, ONE64)
            return
        item -= items
        in_body = (call.batch - images) * call.n_steps
        if item < in_body:
            bases = find_bases(call, worker, ZERO64, images + item // call.n_steps)
            run_numbered(call, item % call.n_steps, bases, share, workers)
        else:
            bases = find_bases(call, worker, ZERO64, ZERO64)
            run_numbered(call, call.n_steps + item - in_body, bases, share, workers)

    return make_entry(count_items, count_shares, run_share, target.name)
