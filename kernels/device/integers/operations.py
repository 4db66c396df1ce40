"""From an operation number to the function that does it, for steps on bytes."""

from __future__ import annotations

import functools
from typing import Any

from ...host.integer_packing import PANEL_VECTORS
from ...host.steps import ADD, ARGMAX, CONV, COPY, DENSE, FILTER, LOOKUP, POINTWISE, POOL, QUANTIZE, SUMS
from ...host.target import IntegerTarget
from ..add import run_copy
from ..addressing import ZERO64, Area, View, address
from ..conv import make_run_conv, staged_columns
from ..inverted_residual import Walk, make_run_filter
from ..jit import njit
from .depthwise import make_filter_rows
from .maps import make_run_add, make_run_argmax, make_run_pool, make_run_quantize, make_run_resize, run_lookup
from .product import VECTORS, byte_panels, make_multiply_bytes, make_run_pointwise, make_run_sums


@functools.cache
def make_convolve(target: IntegerTarget) -> Any:
    """Return the function that computes a panel of a full convolution of staged rows, see `conv.make_run_conv`."""
    multiply = make_multiply_bytes(target)

    @njit(cached=False, variant=target.name)
    def convolve(step, bases, panel, rows, columns, output, area):
        conv, pixel = step.conv, step.input.channels * step.input.channel_bytes
        pixel_stride, row_stride = conv.stride * pixel, conv.stride * staged_columns(conv) * pixel
        corner = address(bases, step.tiling.staged) + rows * row_stride + columns * pixel_stride
        source = View(corner, pixel_stride, row_stride - area.width * pixel_stride)
        multiply(step.product, bases, panel, source, ZERO64, output, area)

    return convolve


@njit(cached=False)
def filter_panels(vectors):
    """Panels of a depthwise convolution."""
    return (vectors + PANEL_VECTORS - 1) // PANEL_VECTORS


@njit(cached=False)
def filter_panel_vectors(panel, vectors):
    """Vectors in a panel of a depthwise convolution."""
    return PANEL_VECTORS


def make_walk(target: IntegerTarget) -> Walk:
    """What the walk over strips needs to know of bytes: each of its panels is expanded by up to two panels."""
    lanes, multiply, convolve_one = target.processor.lanes, make_multiply_bytes(target), make_convolve(target)
    products, width = PANEL_VECTORS // VECTORS, VECTORS * target.processor.lanes

    @njit(cached=False, variant=target.name)
    def expand(step, bases, panel, start, output, area):
        source = step.input
        view = View(start, source.pixel_stride, (source.width - area.width) * source.pixel_stride)
        first, last = panel * products, min((panel + 1) * products, byte_panels(step.product.vectors))
        for each in range(first, last):
            to = View(output.address + (each - first) * width, output.pixel_stride, output.row_jump)
            multiply(step.product, bases, each, view, ZERO64, to, area)

    @njit(cached=False, variant=target.name)
    def convolve(step, bases, panel, rows, columns, output, area):
        first, last = panel * products, min((panel + 1) * products, byte_panels(step.product.vectors))
        for each in range(first, last):
            to = View(output.address + (each - first) * width, output.pixel_stride, output.row_jump)
            convolve_one(step, bases, each, rows, columns, to, area)

    @njit(cached=False, variant=target.name)
    def project(step, bases, first, rows):
        projection, stride = step.projection, step.output.pixel_stride
        skipped = first * step.output.width * stride
        output = address(bases, step.output.ref) + skipped
        residual = address(bases, step.residual) + skipped if step.residual >= 0 else ZERO64
        source = View(address(bases, step.tiling.filtered), step.tiling.filtered_stride, ZERO64)
        pixels = rows * step.output.width
        for panel in range(byte_panels(projection.vectors)):
            offset = panel * width
            to = View(output + offset, stride, ZERO64)
            added = residual + offset if residual != 0 else ZERO64
            multiply(projection, bases, panel, source, added, to, Area(pixels, pixels))

    return Walk(
        target.name, lanes, PANEL_VECTORS, PANEL_VECTORS, filter_panels, filter_panel_vectors, expand, convolve,
        make_filter_rows(target), project,
    )  # fmt: skip


@functools.cache
def make_run_step(target: IntegerTarget) -> Any:
    """Return the function that runs the piece of one worker of one step, see `device.operations.make_run_step`."""
    run_filter, run_pointwise = make_run_filter(make_walk(target)), make_run_pointwise(target)
    run_conv = make_run_conv(make_convolve(target), byte_panels, VECTORS * target.processor.lanes, target.name)
    run_pool, run_add, run_resize = make_run_pool(target), make_run_add(target), make_run_resize(target)
    run_quantize, run_argmax, run_sums = make_run_quantize(target), make_run_argmax(target), make_run_sums(target)

    @njit(cached=False, variant=target.name)
    def run_step(step, bases, worker, workers):
        if step.operation == FILTER:
            run_filter(step, bases, worker, workers)
        elif step.operation == POINTWISE or step.operation == DENSE:
            run_pointwise(step, bases, worker, workers)
        elif step.operation == CONV:
            run_conv(step, bases, worker, workers)
        elif step.operation == POOL:
            run_pool(step, bases, worker, workers)
        elif step.operation == ADD:
            run_add(step, bases, worker, workers)
        elif step.operation == COPY:
            run_copy(step, bases, worker, workers)
        elif step.operation == LOOKUP:
            run_lookup(step, bases, worker, workers)
        elif step.operation == QUANTIZE:
            run_quantize(step, bases, worker, workers)
        elif step.operation == ARGMAX:
            run_argmax(step, bases, worker, workers)
        elif step.operation == SUMS:
            run_sums(step, bases, worker, workers)
        else:
            run_resize(step, bases, worker, workers)

    return run_step
