"""Matrix products of pixels and weights: pointwise convolution, and the core of every full convolution and dense layer.

The unit of work is a *tile*: a few pixels times a few vectors of output channels, all of whose sums stay in registers
while the loop runs over the input channels. Per iteration it loads the weights of its vectors once and one float per
pixel, and does pixels × vectors multiply-adds. So the FMA units and not the loads become the limit.

Weights are packed into *panels* so that a tile reads them in one straight line (see `host.packing`). A product with an
odd number of vectors ends with a panel of three vectors, or of one if that is all.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ..host.target import FLOAT_BYTES, Target
from .addressing import ONE64, ZERO64, Area, Segments, View, address, product_at, share
from .jit import njit
from .simd import INT64, Emitter, Form, Loop, emitted

# Kinds of tiles by the vectors of channels that they compute. A tile of one and a half vectors is laid out like one of
# two: its second vector of weights holds the same half vector twice, once for each of two pixels.
ONE, TWO, THREE, ONE_AND_A_HALF = 1, 2, 3, 4
# Added to a kind: inputs are loaded anew for every product (see `Processor.half_width`). A multiply-add can take its
# input from memory, while a register that several share is filled by the units that also multiply and clip.
RELOADING = 4
# Pixels per tile. Sums, weights and one input must fit in the registers, at least eight sums must be in flight to hide
# the latency of an FMA, the addresses of the pixels must fit in the general registers, and 7 divides the widths 112,
# 56, 28, 14 and 7 of the usual image. Measured on Zen 5 (AVX-512), in percent of peak: 7 × 2 and 7 × 3: 92 to 98,
# 12 × 2: 96, 14 × 2: 93, 7 × 4: 80; 12 × 1: 84, 14 × 1: 67.
_PIXELS_OF_32_REGISTERS = {ONE: 12, TWO: 7, THREE: 7, ONE_AND_A_HALF: 8}
_PIXELS_OF_16_REGISTERS = {ONE: 12, TWO: 6, THREE: 4, ONE_AND_A_HALF: 6}
# The last pixels of an area, if whole tiles leave at most so many, go by small ones: of four sums where a vector of 16
# lanes takes the FMA units a whole cycle, of eight where two vectors do. Of the other kinds it is not worth the code.
FEW_PIXELS = 4
_FEW_OF_16_LANES = {TWO: 2, THREE: 2}
_FEW_OF_SHORT_VECTORS = {TWO: 4, THREE: 2}


class Sum(NamedTuple):
    """One register of sums: the pixels that it belongs to (two halves if there are two) and its vector of channels."""

    pixels: tuple[int, ...]
    vector: int


class Position(NamedTuple):
    """Where a tile is.

    Attributes
    ----------
    x, width : int
        Column of its first pixel, and columns of the map.
    valid : int
        Number of its pixels that exist, at least one. The rest of the tile repeats the last of them, which costs time
        only.
    """

    x: int
    width: int
    valid: int


class Prefetch(NamedTuple):
    """Memory to be fetched into the cache meanwhile: an address, and the way to the next one in every iteration."""

    address: int
    stride: int


def tile_pixels(target: Target) -> dict[int, int]:
    """Pixels per tile, by its kind."""
    return _PIXELS_OF_32_REGISTERS if target.registers >= 32 else _PIXELS_OF_16_REGISTERS


def small_tile_pixels(target: Target) -> dict[int, int]:
    """Pixels per small tile, by its kind if there are any."""
    return _FEW_OF_16_LANES if target.lanes == 16 else _FEW_OF_SHORT_VECTORS


def _sums(kind: int, pixels: int) -> list[Sum]:
    if kind != ONE_AND_A_HALF:
        return [Sum((pixel,), vector) for pixel in range(pixels) for vector in range(kind)]
    whole = [Sum((pixel,), 0) for pixel in range(pixels)]
    return whole + [Sum((pixel, pixel + 1), 1) for pixel in range(0, pixels, 2)]


def make_tile(target: Target, kind: int, pixels: int, form: Form, reload: bool) -> Any:
    """Return a function that computes one tile of so many pixels for maps of a form, reloading inputs or not.

    It is called as ``tile(source: View, segments: Segments, product: Product, residual, output: View, position:
    Position, ahead: Prefetch)``. `residual` is an address, 0 for none: of what is added before the clip, in the layout
    of the output.
    """
    sums = _sums(kind, pixels)

    @emitted(target, form)
    def tile(emit, source, segments, product, residual, output, position, ahead):
        inputs, outputs = walk(emit.builder, pixels, (source, output), position)
        start = emit.load_all(product.bias, _vectors(sums))
        values = [start[total.vector] for total in sums]
        values = _multiply(emit, sums, inputs, segments, product.weights, values, ahead, reload)
        values = _add_residual(emit, sums, residual, emit.builder.sub(residual, output.address), outputs, values)
        low, high = emit.splat(product.low), emit.splat(product.high)
        for total, value in zip(sums, values):
            addresses = [outputs[pixel] for pixel in total.pixels]
            store = emit.store_map if len(addresses) == 1 else emit.store_map_halves
            store(emit.clip(value, low, high), *addresses, total.vector)

    return tile


def _vectors(sums: list[Sum]) -> int:
    return max(total.vector for total in sums) + 1


def walk(builder: Any, pixels: int, views: tuple[View, ...], position: Position) -> list[list[Any]]:
    """Addresses of the tile's pixels in each of the views."""
    zero, x = INT64(0), position.x
    found = [[view.address] for view in views]
    for pixel in range(1, pixels):
        x = builder.add(x, INT64(1))
        wraps = builder.icmp_signed("==", x, position.width)
        x = builder.select(wraps, zero, x)
        exists = builder.icmp_signed("<", INT64(pixel), position.valid)
        for addresses, view in zip(found, views):
            way = builder.add(view.pixel_stride, builder.select(wraps, view.row_jump, zero))
            addresses.append(builder.add(addresses[-1], builder.select(exists, way, zero)))
    return found


def _multiply(
    emit: Emitter, sums: list[Sum], inputs: list[Any], segments: Segments, weights: Any, values: list[Any],
    ahead: Prefetch, reload: bool,
) -> list[Any]:  # fmt: skip
    """Add all products to the values of the sums, segment by segment and channel by channel."""
    builder = emit.builder
    stop = builder.mul(segments.length, INT64(FLOAT_BYTES))
    from_memory = reload and emit.takes_words_from_memory
    join = emit.make_join(reload and not from_memory) if any(len(total.pixels) == 2 for total in sums) else None
    outer = Loop(builder, [INT64(0), INT64(0), ahead.address, weights, *values])
    segment, offset, soon, weights, *values = outer.values
    inputs = [builder.add(address, offset) for address in inputs]
    inner = Loop(builder, [INT64(0), soon, weights, *values])
    at, soon, weights, *values = inner.values
    if _vectors(sums) > 1:  # a tile of one vector is limited by its loads, and its weights are few
        emit.prefetch(soon)
    row = emit.load_all(weights, _vectors(sums))
    addresses = [builder.add(address, at) for address in inputs]
    words = [emit.broadcast(address) for address in addresses]
    following = []
    for total, value in zip(sums, values):
        *others, last = total.pixels
        if from_memory and not others:
            following.append(emit.multiply_add_from(addresses[last], row[total.vector], value))
            continue
        # LLVM would share the first vector's load, if it knew that the address is the same.
        word = (
            emit.broadcast(emit.hidden(addresses[last])) if reload and not from_memory and total.vector else words[last]
        )
        if others and join:
            word = join(words[others[0]], word)
        following.append(emit.multiply_add(word, row[total.vector], value))
    at = builder.add(at, INT64(FLOAT_BYTES))
    soon = builder.add(soon, ahead.stride)
    weights = builder.add(weights, INT64(_vectors(sums) * emit.lanes * FLOAT_BYTES))
    inner.repeat(builder.icmp_signed("<", at, stop), [at, soon, weights, *following])
    segment = builder.add(segment, INT64(1))
    offset = builder.add(offset, segments.stride)
    outer.repeat(builder.icmp_signed("<", segment, segments.number), [segment, offset, *inner.values[1:]])
    return outer.values[4:]


def _add_residual(
    emit: Emitter, sums: list[Sum], residual: Any, distance: Any, outputs: list[Any], values: list[Any]
) -> list[Any]:
    """Add the residual, which lies at a distance from the output, where there is one."""
    builder = emit.builder
    before = builder.block
    add, after = builder.append_basic_block("residual"), builder.append_basic_block("store")
    builder.cbranch(builder.icmp_signed("!=", residual, INT64(0)), add, after)
    builder.position_at_end(add)
    added = []
    for total, value in zip(sums, values):
        addresses = [builder.add(outputs[pixel], distance) for pixel in total.pixels]
        load = emit.load_map if len(addresses) == 1 else emit.load_map_halves
        added.append(builder.fadd(emit.rounded(value), load(*addresses, total.vector)))
    builder.branch(after)
    builder.position_at_end(after)
    phis = [builder.phi(emit.type) for _ in values]
    for phi, old, new in zip(phis, values, added):
        phi.add_incoming(old, before)
        phi.add_incoming(new, add)
    return phis


@njit(cached=False)
def panels(vectors):
    """Panels that a number of vectors of output channels is cut into."""
    return max(1, vectors // 2)


@njit(cached=False)
def panel_vectors(panel, vectors):
    """Vectors in a panel: two, and in the last one what is left."""
    return 2 if panel + 1 < panels(vectors) else vectors - 2 * panel


@njit(cached=False)
def tile_kind(panel, product):
    """Kind of tile for a panel of a product, as its record describes it."""
    more = RELOADING if product.reload else 0
    if product.half and panel + 1 == panels(product.vectors):
        return ONE_AND_A_HALF + more
    vectors = panel_vectors(panel, product.vectors)
    return TWO + more if vectors == TWO else vectors


@functools.cache
def make_run_tiles(target: Target, kind: int, size: int, form: Form, reload: bool = False) -> Any:
    """Return the function that computes one panel for some pixels of an area by tiles of one kind and size.

    It is called as ``run_tiles(source, segments, product, residual, output, area, first, last)``: as that of
    `make_multiply`, with a range of the area's pixels instead of the kind.
    """
    tile = make_tile(target, kind, size, form, reload)
    line = (2 if kind == ONE_AND_A_HALF else kind) * target.vector_bytes

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}-{kind}-{size}-{reload}")
    def run_tiles(source, segments, product, residual, output, area, first, last):
        row, x = first // area.width, first % area.width
        a = source.address + first * source.pixel_stride + row * source.row_jump
        c = output.address + first * output.pixel_stride + row * output.row_jump
        # While this panel is in use, the next one is fetched, a piece in every iteration of every tile.
        sums = segments.number * segments.length
        ahead_stride = (line * size + area.pixels - 1) // area.pixels
        ahead = product.weights + sums * line * (area.pixels + first) // area.pixels
        # Where there is no residual, the tile must find 0 at every pixel.
        distance = residual - output.address if residual != 0 else 0
        for pixel in range(first, last, size):
            tile(
                View(a, source.pixel_stride, source.row_jump), segments, product, c + distance if distance != 0 else 0,
                View(c, output.pixel_stride, output.row_jump),
                Position(x, area.width, min(size, last - pixel)), Prefetch(ahead, ahead_stride),
            )  # fmt: skip
            x += size
            a, c = a + size * source.pixel_stride, c + size * output.pixel_stride
            while x >= area.width:
                x, a, c = x - area.width, a + source.row_jump, c + output.row_jump
            ahead += sums * ahead_stride

    return run_tiles


def make_multiply_by(target: Target, kind: int, form: Form, reload: bool = False) -> Any:
    """Return the function that computes one panel for all pixels of an area by tiles of one kind, whole and small ones.

    Its arguments are those of `make_multiply`, but for the kind. Only whole tiles reload inputs.
    """
    size, few = tile_pixels(target)[kind], small_tile_pixels(target).get(kind)
    whole = make_run_tiles(target, kind, size, form, reload)
    small, most = (make_run_tiles(target, kind, few, form), FEW_PIXELS) if few else (whole, 0)

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}-{kind}-{reload}")
    def multiply(source, segments, product, residual, output, area):
        rest = area.pixels % size
        last = area.pixels - rest if rest <= most else area.pixels
        whole(source, segments, product, residual, output, area, ZERO64, last)
        if last < area.pixels:
            small(source, segments, product, residual, output, area, last, area.pixels)

    return multiply


@functools.cache
def make_multiply(target: Target, form: Form) -> Any:
    """Return the function that computes one panel for all pixels of an area, for maps of a form.

    It is called as ``multiply(source: View, segments: Segments, product: Product, residual, output: View, area: Area,
    kind)``; `residual` is an address as for a tile, and `kind` the kind of tiles.
    """
    # The first processors with products of bfloat16 make one in a cycle, so loads have time to spare there, too.
    short = target.map_bytes != FLOAT_BYTES
    by_one = make_multiply_by(target, ONE, form)
    by_two, by_three = (make_multiply_by(target, kind, form, short) for kind in (TWO, THREE))
    by_one_and_a_half = make_multiply_by(target, ONE_AND_A_HALF, form, short) if target.halves else by_two
    by_two_anew, by_one_and_a_half_anew = by_two, by_one_and_a_half
    if target.halves and not short:
        by_two_anew, by_one_and_a_half_anew = (
            make_multiply_by(target, kind, form, True) for kind in (TWO, ONE_AND_A_HALF)
        )

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}")
    def multiply(source, segments, product, residual, output, area, kind):
        if kind == TWO:
            by_two(source, segments, product, residual, output, area)
        elif kind == THREE:
            by_three(source, segments, product, residual, output, area)
        elif kind == ONE:
            by_one(source, segments, product, residual, output, area)
        elif kind == ONE_AND_A_HALF:
            by_one_and_a_half(source, segments, product, residual, output, area)
        elif kind == TWO + RELOADING:
            by_two_anew(source, segments, product, residual, output, area)
        else:
            by_one_and_a_half_anew(source, segments, product, residual, output, area)

    return multiply


@functools.cache
def make_run_pointwise(target: Target, form: Form) -> Any:
    """Return the function that multiplies all pixels by all weights; workers share the grid of panels × tiles."""
    multiply, panel_bytes = make_multiply(target, form), 2 * target.vector_bytes
    output_panel, word = 2 * target.lanes * form.output, target.word_channels
    one, two = tile_pixels(target)[ONE], tile_pixels(target)[TWO]

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}")
    def run_pointwise(step, bases, worker, workers):
        source, output, product, length = step.input, step.output, step.product, step.input.channels // word
        pixels, tile_size = source.height * source.width, two if product.vectors > 1 else one
        tiles = (pixels + tile_size - 1) // tile_size
        first, last = share(tiles * panels(product.vectors), worker, workers)
        a, c = address(bases, source.ref), address(bases, output.ref)
        residual = address(bases, step.residual) if step.residual >= 0 else ZERO64
        while first < last:
            panel = first // tiles
            tile = first - panel * tiles
            stop = min(tiles, tile + last - first)
            start = tile * tile_size
            offset = start * output.pixel_stride + panel * output_panel
            multiply(
                View(a + start * source.pixel_stride, source.pixel_stride, ZERO64),
                Segments(ONE64, ZERO64, length),
                product_at(product, bases, panel * panel_bytes, length),
                residual + offset if residual != 0 else ZERO64,
                View(c + offset, output.pixel_stride, ZERO64),
                Area(min(stop * tile_size, pixels) - start, pixels),
                tile_kind(panel, product),
            )
            first += stop - tile

    return run_pointwise
