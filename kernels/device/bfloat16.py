"""From an operation number to the function that does it, for steps on maps of bfloat16.

The functions are those for float32, made for maps of another form; see `npmnv2.kernels.bfloat16` for the arithmetic.
Float32 are the image, and maps that no layer reads any more.
"""

from __future__ import annotations

import functools
from typing import Any

from ..host.steps import ADD, CONV, COPY, DENSE, FILTER, POINTWISE, POOL
from ..host.target import BFLOAT16_BYTES, FLOAT_BYTES, Target
from .add import make_run_add, run_copy
from .addressing import address, share
from .conv import make_convolve_staged, make_run_conv
from .dense import make_run_dense
from .inverted_residual import make_run_filter, make_walk
from .jit import njit
from .pointwise import make_run_pointwise, panels
from .pool import make_run_pool
from .resize import make_run_resize
from .simd import FLOAT, INT16, INT32, Form, emitted

BETWEEN = Form(BFLOAT16_BYTES, BFLOAT16_BYTES)
WIDENING, NARROWING = Form(BFLOAT16_BYTES, FLOAT_BYTES), Form(FLOAT_BYTES, BFLOAT16_BYTES)


@functools.cache
def make_run_step(target: Target) -> Any:
    """Return the function that runs the piece of one worker of one step, see `operations.make_run_step`."""
    run_filter, map_panel = make_run_filter(make_walk(target)), 2 * target.map_vector_bytes
    run_conv, run_image_conv = (
        make_run_conv(make_convolve_staged(target, form), panels, map_panel, f"{target.name}-{form.source}")
        for form in (BETWEEN, NARROWING)
    )
    run_pointwise, run_last_pointwise = (make_run_pointwise(target, form) for form in (BETWEEN, WIDENING))
    run_pool, run_last_pool = (make_run_pool(target, form) for form in (BETWEEN, WIDENING))
    run_add, run_dense, run_resize = make_run_add(target), make_run_dense(target), make_run_resize(target)
    run_convert = make_run_convert(target)

    @njit(cached=False, variant=target.name)
    def run_step(step, bases, worker, workers):
        short = step.output.channel_bytes == BFLOAT16_BYTES
        if step.operation == FILTER:
            run_filter(step, bases, worker, workers)
        elif step.operation == POINTWISE:
            if short:
                run_pointwise(step, bases, worker, workers)
            else:
                run_last_pointwise(step, bases, worker, workers)
        elif step.operation == CONV:
            if step.input.channel_bytes == BFLOAT16_BYTES:
                run_conv(step, bases, worker, workers)
            else:
                run_image_conv(step, bases, worker, workers)
        elif step.operation == POOL:
            if short:
                run_pool(step, bases, worker, workers)
            else:
                run_last_pool(step, bases, worker, workers)
        elif step.operation == ADD:
            run_add(step, bases, worker, workers)
        elif step.operation == DENSE:
            run_dense(step, bases, worker, workers)
        elif step.operation == COPY:
            if step.input.channel_bytes == step.output.channel_bytes:
                run_copy(step, bases, worker, workers)
            else:
                run_convert(step, bases, worker, workers)
        else:
            run_resize(step, bases, worker, workers)

    return run_step


@functools.cache
def make_run_convert(target: Target) -> Any:
    """Return the function that copies channels of pixels to pixels of the other kind of numbers."""
    lanes = target.lanes
    widen, narrow = (_make_convert(target, form) for form in (WIDENING, NARROWING))
    widen_one, narrow_one = (_make_convert_one(target, form) for form in (WIDENING, NARROWING))

    @njit(cached=False, variant=target.name)
    def run_convert(step, bases, worker, workers):
        source, output = step.input, step.output
        first, last = share(source.height * source.width, worker, workers)
        whole = source.channels - source.channels % lanes
        for pixel in range(first, last):
            start = address(bases, source.ref) + pixel * source.pixel_stride
            to = address(bases, output.ref) + pixel * output.pixel_stride
            for channel in range(0, whole, lanes):
                at, out = start + channel * source.channel_bytes, to + channel * output.channel_bytes
                if output.channel_bytes == FLOAT_BYTES:
                    widen(at, out)
                else:
                    narrow(at, out)
            for channel in range(whole, source.channels):
                at, out = start + channel * source.channel_bytes, to + channel * output.channel_bytes
                if output.channel_bytes == FLOAT_BYTES:
                    widen_one(at, out)
                else:
                    narrow_one(at, out)

    return run_convert


def _make_convert(target: Target, form: Form) -> Any:
    @emitted(target, form)
    def convert(emit, source, output):
        emit.store_map(emit.load_map(source), output)

    return convert


def _make_convert_one(target: Target, form: Form) -> Any:
    """As the vector's, for the channels that fill none: memory beyond them may belong to nobody."""
    kinds = {BFLOAT16_BYTES: INT16, FLOAT_BYTES: FLOAT}

    @emitted(target, form)
    def convert_one(emit, source, output):
        builder, first = emit.builder, INT32(0)
        pointers = (builder.inttoptr(at, kinds[size].as_pointer()) for at, size in zip((source, output), form))
        pointer, to = pointers
        vector = emit.splat(builder.load(pointer, align=form.source))
        changed = emit.widened(vector) if form == WIDENING else emit.narrowed(vector)
        builder.store(builder.extract_element(changed, first), to, align=form.output)

    return convert_one
