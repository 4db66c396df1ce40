"""Vectors for Numba: the few instructions that the kernels are made of, emitted as LLVM IR.

Numba has no vector type, and how LLVM vectorizes scalar loops is unpredictable. The inner loops are therefore written
as *intrinsics*: functions that Numba calls by name and whose body is LLVM IR built here, vector by vector. LLVM still
chooses registers and schedules, and turns one description into AVX-512, AVX2, SSE or NEON code.

Memory is addressed by plain integers: an address is an ``int64`` count of bytes. Every kernel then has one signature,
whatever the arrays are (strided, read-only, …), so each compiles once and can be compiled ahead of time.

Two rules keep the results equal, bit by bit, on every width of vector:

* lanes never meet: an output element lives in one lane of one register from its bias to its clip;
* products are added by `Emitter.fma`, which rounds once wherever it runs (without an FMA unit LLVM calls the C
  library).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..host.target import BFLOAT16_BYTES, FLOAT_BYTES, Target

FLOAT, INT64, INT32, BYTE, BOOL = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1)
BYTES = BYTE.as_pointer()


class Form(NamedTuple):
    """Bytes of a channel in the maps that a function reads and writes: 4 for float32, 2 for bfloat16."""

    source: int
    output: int


FLOATS = Form(FLOAT_BYTES, FLOAT_BYTES)


def form_of(target: Target) -> Form:
    """The form of what reads and writes maps as the target holds them."""
    return Form(target.map_bytes, target.map_bytes)


class Emitter:
    """Writes vector instructions where an IR builder stands.

    Weights, biases and sums are float32; what lies in maps may be shorter, and has instructions of its own.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    lanes : int
        Floats in one vector.
    """

    def __init__(self, builder: ir.IRBuilder, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes
        self.type = ir.VectorType(FLOAT, lanes)
        self.zero = ir.Constant(self.type, [0.0] * lanes)

    def load(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th vector from `address` on, which need not be aligned."""
        return self.builder.load(self._pointer(address, index * self.lanes, self.type), align=FLOAT_BYTES)

    def store(self, value: ir.Value, address: ir.Value, index: int = 0) -> None:
        """Store the `index`-th vector from `address` on."""
        self.builder.store(value, self._pointer(address, index * self.lanes, self.type), align=FLOAT_BYTES)

    def load_map(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th vector of a map from `address` on, as floats."""
        return self.load(address, index)

    def store_map(self, value: ir.Value, address: ir.Value, index: int = 0) -> None:
        """Store the `index`-th vector of a map from `address` on."""
        self.store(value, address, index)

    def rounded(self, value: ir.Value) -> ir.Value:
        """A vector as it is once it has been stored in a map and loaded again."""
        return value

    def multiply_add(self, words: ir.Value, weights: ir.Value, sums: ir.Value) -> ir.Value:
        """Add the product of a word of channels and its weights to the sums."""
        return self.fma(words, weights, sums)

    @property
    def takes_words_from_memory(self) -> bool:
        """Whether `multiply_add_from` is there: where LLVM does not choose such an operand by itself."""
        return False

    def multiply_add_from(self, address: ir.Value, weights: ir.Value, sums: ir.Value) -> ir.Value:
        """As `multiply_add`, with the word at an address, which the instruction loads."""
        raise NotImplementedError

    def hidden(self, value: ir.Value) -> ir.Value:
        """The same 64-bit integer as one that LLVM does not know: it can neither compute with it nor find it again."""
        same = ir.InlineAsm(ir.FunctionType(INT64, [INT64]), "", "=r,0")
        return self.builder.call(same, [value])

    def make_join(self, from_memory: bool) -> Callable[[ir.Value, ir.Value], ir.Value]:
        """Return what joins the lower half of a vector and the upper half of another, which may come from memory.

        LLVM would turn a known mask into permutations, which compete with the FMA units (measured: 13 % of a tile). It
        lets an "or" read memory, but no blend: so the second vector is or'ed with zeros that it does not know.
        """
        half, whole = self.lanes // 2, ir.VectorType(INT32, self.lanes)
        bits = self.builder.trunc(self.hidden(INT64(((1 << half) - 1) << half)), ir.IntType(self.lanes))
        mask = self.builder.bitcast(bits, ir.VectorType(BOOL, self.lanes))
        if not from_memory:
            return lambda lower, upper: self.builder.select(mask, upper, lower)
        unknown = self.builder.trunc(self.hidden(INT64(0)), INT32)
        zeros = self.builder.insert_element(ir.Constant(whole, [0] * self.lanes), unknown, INT32(0))

        def join(lower: ir.Value, upper: ir.Value) -> ir.Value:
            upper = self.builder.or_(zeros, self.builder.bitcast(upper, whole))
            return self.builder.bitcast(self.builder.select(mask, upper, self.builder.bitcast(lower, whole)), self.type)

        return join

    def load_map_halves(self, lower: ir.Value, upper: ir.Value, index: int) -> ir.Value:
        """Load the first half of the `index`-th vector of a map from each of two addresses on."""
        kind = ir.VectorType(FLOAT, self.lanes // 2)
        pointers = [self._pointer(address, index * self.lanes, kind) for address in (lower, upper)]
        halves = [self.builder.load(pointer, align=FLOAT_BYTES) for pointer in pointers]
        both = ir.Constant(ir.VectorType(INT32, self.lanes), list(range(self.lanes)))
        return self.builder.shuffle_vector(*halves, both)

    def store_map_halves(self, value: ir.Value, lower: ir.Value, upper: ir.Value, index: int) -> None:
        """Store each half of a vector as the first half of the `index`-th vector of a map from an address on."""
        for address, part in zip((lower, upper), self.halves(value)):
            self.builder.store(part, self._pointer(address, index * self.lanes, part.type), align=FLOAT_BYTES)

    def halves(self, value: ir.Value) -> list[ir.Value]:
        """The two halves of a vector."""
        half = self.lanes // 2
        lanes = [list(range(first, first + half)) for first in (0, half)]
        kind = ir.VectorType(INT32, half)
        return [self.builder.shuffle_vector(value, value, ir.Constant(kind, each)) for each in lanes]

    def load_all(self, address: ir.Value, count: int) -> list[ir.Value]:
        """Load `count` vectors that lie side by side."""
        return [self.load(address, index) for index in range(count)]

    def broadcast(self, address: ir.Value) -> ir.Value:
        """Load one float into all lanes."""
        return self.splat(self.builder.load(self._pointer(address, 0, FLOAT), align=FLOAT_BYTES))

    def splat(self, scalar: ir.Value) -> ir.Value:
        """Copy a scalar into all lanes."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, INT32(0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a · b + c``, rounded once."""
        return self._call(f"llvm.fma.v{self.lanes}f32", self.type, a, b, c)

    def clip(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Limit `value` to low … high. NaN stays NaN, as in NumPy, since all comparisons with it are false."""
        builder = self.builder
        value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
        return builder.select(builder.fcmp_ordered("<", high, value), high, value)

    def prefetch(self, address: ir.Value) -> None:
        """Ask for the cache line at `address`, which need not be valid memory."""
        function = _declared("llvm.prefetch.p0i8", self.builder.module, [BYTES, INT32, INT32, INT32])
        pointer = self.builder.inttoptr(address, BYTES)
        read, into_all_levels, data = INT32(0), INT32(3), INT32(1)
        self.builder.call(function, [pointer, read, into_all_levels, data])

    def _call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Call an instruction by its name in LLVM."""
        module = self.builder.module
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(module.globals.get(name) or ir.Function(module, kind, name), arguments)

    def _pointer(self, address: ir.Value, floats: int, kind: ir.Type) -> ir.Value:
        pointer = self.builder.inttoptr(address, FLOAT.as_pointer())
        if floats:
            pointer = self.builder.gep(pointer, [INT64(floats)])
        return self.builder.bitcast(pointer, kind.as_pointer())


class _Bfloat16(ir.FloatType):  # type: ignore[misc]
    """LLVM's type of 16-bit numbers with the exponent of a float; llvmlite has none."""

    def __str__(self) -> str:
        return "bfloat"


_Bfloat16._create_instance()
INT16 = ir.IntType(16)
# Before version 16, LLVM's instructions took integers in their place.
_TYPED_BFLOAT16 = llvm.llvm_version_info[0] >= 16


class Bfloat16Emitter(Emitter):
    """Writes instructions for maps of bfloat16, see `npmnv2.kernels.bfloat16`.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    lanes : int
    form : Form
        Which maps are of bfloat16: those that are read, those that are written, or both.
    """

    def __init__(self, builder: ir.IRBuilder, lanes: int, form: Form) -> None:
        super().__init__(builder, lanes)
        self.form = form

    def load_map(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th vector of a map from `address` on, as floats."""
        if self.form.source == FLOAT_BYTES:
            return self.load(address, index)
        kind = ir.VectorType(INT16, self.lanes)
        pointer = self._short_pointer(address, index, kind)
        return self.widened(self.builder.load(pointer, align=BFLOAT16_BYTES))

    def store_map(self, value: ir.Value, address: ir.Value, index: int = 0) -> None:
        """Store the `index`-th vector of a map from `address` on."""
        if self.form.output == FLOAT_BYTES:
            self.store(value, address, index)
            return
        short = self.narrowed(value)
        self.builder.store(short, self._short_pointer(address, index, short.type), align=BFLOAT16_BYTES)

    def load_map_halves(self, lower: ir.Value, upper: ir.Value, index: int) -> ir.Value:
        """Load the first half of the `index`-th vector of a map from each of two addresses on."""
        if self.form.source == FLOAT_BYTES:
            return super().load_map_halves(lower, upper, index)
        kind = ir.VectorType(INT16, self.lanes // 2)
        pointers = [self._short_pointer(address, index, kind) for address in (lower, upper)]
        halves = [self.builder.load(pointer, align=BFLOAT16_BYTES) for pointer in pointers]
        both = ir.Constant(ir.VectorType(INT32, self.lanes), list(range(self.lanes)))
        return self.widened(self.builder.shuffle_vector(*halves, both))

    def store_map_halves(self, value: ir.Value, lower: ir.Value, upper: ir.Value, index: int) -> None:
        """Store each half of a vector as the first half of the `index`-th vector of a map from an address on."""
        if self.form.output == FLOAT_BYTES:
            super().store_map_halves(value, lower, upper, index)
            return
        for address, part in zip((lower, upper), self.halves(self.narrowed(value))):
            self.builder.store(part, self._short_pointer(address, index, part.type), align=BFLOAT16_BYTES)

    def rounded(self, value: ir.Value) -> ir.Value:
        """A vector as it is once it has been stored in a map and loaded again."""
        return value if self.form.output == FLOAT_BYTES else self.widened(self.narrowed(value))

    def multiply_add(self, words: ir.Value, weights: ir.Value, sums: ir.Value) -> ir.Value:
        """Add the products of pairs of channels and their weights to the sums: the second channel's, then the first's.

        Each addition rounds to float32, and what would be denormal is zero.
        """
        if self.form.source == FLOAT_BYTES:
            return self.fma(words, weights, sums)
        kind = ir.VectorType(_Bfloat16(), 2 * self.lanes) if _TYPED_BFLOAT16 else ir.VectorType(INT32, self.lanes)
        pairs = (self.builder.bitcast(value, kind) for value in (words, weights))
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", self.type, sums, *pairs)

    @property
    def takes_words_from_memory(self) -> bool:
        """Whether maps are multiplied, not the image."""
        return self.form.source != FLOAT_BYTES

    def multiply_add_from(self, address: ir.Value, weights: ir.Value, sums: ir.Value) -> ir.Value:
        """As `multiply_add`, with the word at an address, which the instruction loads."""
        llvm.initialize_native_asmparser()
        kind = ir.FunctionType(self.type, [INT64, self.type, self.type])
        instruction = ir.InlineAsm(kind, "vdpbf16ps ($1){1to16}, $2, $0", "=v,r,v,0,~{memory}")
        return self.builder.call(instruction, [address, weights, sums])

    def widened(self, short: ir.Value) -> ir.Value:
        """Floats of bfloat16, which are their upper halves."""
        kind = ir.VectorType(INT32, self.lanes)
        upper = self.builder.shl(self.builder.zext(short, kind), ir.Constant(kind, [16] * self.lanes))
        return self.builder.bitcast(upper, self.type)

    def narrowed(self, value: ir.Value) -> ir.Value:
        """Floats rounded to bfloat16, ties to even; denormals become zero."""
        kind = ir.VectorType(_Bfloat16() if _TYPED_BFLOAT16 else INT16, self.lanes)
        short = self._call("llvm.x86.avx512bf16.cvtneps2bf16.512", kind, value)
        return self.builder.bitcast(short, ir.VectorType(INT16, self.lanes))

    def _short_pointer(self, address: ir.Value, index: int, kind: ir.Type) -> ir.Value:
        at = self.builder.add(address, INT64(index * self.lanes * BFLOAT16_BYTES))
        return self.builder.inttoptr(at, kind.as_pointer())


def make_emitter(builder: ir.IRBuilder, target: Target, form: Form) -> Emitter:
    """What writes instructions for a target, and for maps of a form."""
    return Emitter(builder, target.lanes) if form == FLOATS else Bfloat16Emitter(builder, target.lanes, form)


class Loop:
    """A loop in IR whose running values stay in registers.

    Creating one opens it: what is emitted next is its body, where `values` are the values of this iteration. `repeat`
    closes it; afterwards `values` are the last `following`. The body runs at least once.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    start : sequence of llvmlite.ir.Value
        Values of the first iteration.
    """

    def __init__(self, builder: ir.IRBuilder, start: Sequence[ir.Value]) -> None:
        self._builder = builder
        before = builder.block
        self._body = builder.append_basic_block("loop")
        builder.branch(self._body)
        builder.position_at_end(self._body)
        self.values: list[ir.Value] = [builder.phi(value.type) for value in start]
        self._phis = self.values
        for phi, value in zip(self._phis, start):
            phi.add_incoming(value, before)

    def repeat(self, condition: ir.Value, following: Sequence[ir.Value]) -> None:
        """Go round again with the values `following` while `condition` holds."""
        builder = self._builder
        for phi, value in zip(self._phis, following):
            phi.add_incoming(value, builder.block)
        after = builder.append_basic_block("after")
        builder.cbranch(condition, self._body, after)
        builder.position_at_end(after)
        self.values = list(following)


def emitted(target: Target, form: Form | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that compiled code calls of one that emits its body for a target, and for its maps.

    The body is called as ``body(emit, *arguments)``: an `Emitter`, then values in IR. An argument that is a NamedTuple
    in compiled code is the same NamedTuple of values here.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        @intrinsic
        def function(typing: Any, *arguments: Any) -> Any:
            kinds = [types.unliteral(argument) for argument in arguments]

            def codegen(context: Any, builder: ir.IRBuilder, _: Any, packed: Any) -> ir.Value:
                values = cgutils.unpack_tuple(builder, packed[0])
                body(
                    make_emitter(builder, target, form or form_of(target)),
                    *(_unpacked(builder, kind, value) for kind, value in zip(kinds, values)),
                )
                return context.get_dummy_value()

            return types.void(types.BaseTuple.from_types(kinds)), codegen

        return function

    return decorate


def _unpacked(builder: ir.IRBuilder, kind: Any, value: ir.Value) -> Any:
    named_tuple = getattr(kind, "instance_class", None)
    return value if named_tuple is None else named_tuple(*cgutils.unpack_tuple(builder, value))


def _declared(name: str, module: ir.Module, parameters: list[ir.Type]) -> ir.Function:
    known = module.globals.get(name)
    return known or ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)


def intrinsic_void(count: int) -> Callable[[Callable[..., None]], Any]:
    """Make a function of `count` addresses and numbers that compiled code calls of one that emits its body."""

    def decorate(body: Callable[..., None]) -> Any:
        def typed(typing: Any, *arguments: Any) -> Any:
            def codegen(context: Any, builder: ir.IRBuilder, _: Any, packed: Any) -> ir.Value:
                body(builder, *cgutils.unpack_tuple(builder, packed[0]))
                return context.get_dummy_value()

            return types.void(types.BaseTuple.from_types([types.int64] * count)), codegen

        return intrinsic(typed)

    return decorate


@intrinsic
def copy_bytes(typing: Any, output: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes between two addresses that do not overlap."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        output, source, count = arguments
        pointers = [builder.inttoptr(address, BYTES) for address in (output, source)]
        copy = _declared("llvm.memcpy.p0i8.p0i8.i64", builder.module, [BYTES, BYTES, INT64, BOOL])
        builder.call(copy, [*pointers, count, BOOL(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def fill_bytes(typing: Any, output: Any, count: Any, value: Any) -> Any:
    """Fill `count` bytes with a value."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        output, count, value = arguments
        fill = _declared("llvm.memset.p0i8.i64", builder.module, [BYTES, BYTE, INT64, BOOL])
        builder.call(fill, [builder.inttoptr(output, BYTES), builder.trunc(value, BYTE), count, BOOL(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def load_integer(typing: Any, address: Any) -> Any:
    """The int64 at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        return builder.load(builder.inttoptr(arguments[0], INT64.as_pointer()), align=8)

    return types.int64(types.int64), codegen
