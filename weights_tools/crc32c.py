"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast enough in NumPy for a whole checkpoint.

A CRC is linear, so a long buffer is cut into lanes of equal length, all lanes advance together (one table
look-up for each 16 bits), and their remainders are joined pairwise: the CRC of two pieces is the first one's,
moved past as many zero bits as the second has, xor the second's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # bits reversed
_MASK_DELTA = 0xA282EAD8
_SHORT = 1 << 13

UInt32s = npt.NDArray[np.uint32]


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of some bytes."""
    view = memoryview(data)
    whole = len(view) // 4 * 4
    crc = 0xFFFFFFFF
    if whole >= _SHORT:
        lanes = 1 << max(0, (whole.bit_length() - 3) // 2)
        steps = whole // 4 // lanes
        head = steps * lanes * 4
        words = np.frombuffer(view[:head], "<u4").reshape(lanes, steps)
        crc = _crc_of_lanes(words, crc)
        view = view[head:]
    return _crc_of_bytes(view, crc) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """How LevelDB's and TensorFlow's files store a CRC, so that a CRC over data with CRCs in it stays
    meaningful.
    """
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _crc_of_bytes(data: memoryview, crc: int) -> int:
    table = _byte_table()
    for byte in bytes(data):
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def _crc_of_lanes(words: UInt32s, crc: int) -> int:
    lanes, steps = words.shape
    low, high = _word_tables()
    state = np.zeros(lanes, np.uint32)
    state[0] = crc
    for column in np.ascontiguousarray(words.T):
        state = state ^ column
        state = low[state & 0xFFFF] ^ high[state >> 16]
    shift = _zeros_matrix(steps * 32)
    for _ in range(lanes.bit_length() - 1):
        state = _apply(shift, state[0::2]) ^ state[1::2]
        shift = _apply(shift, shift)
    return int(state[0])


@cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


@cache
def _word_tables() -> tuple[UInt32s, UInt32s]:
    """The effect of 32 zero bits on a remainder, by its low and its high half."""
    bits = np.arange(1 << 16, dtype=np.uint32)
    matrix = _zeros_matrix(32)
    return _apply(matrix, bits), _apply(matrix, bits << np.uint32(16))


@cache
def _zeros_matrix(bits: int) -> UInt32s:
    """The linear map, as the images of the 32 unit vectors, that `bits` zero bits are on a remainder."""
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = np.array([_POLYNOMIAL, *(1 << n for n in range(31))], np.uint32)
    while bits:
        if bits & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        bits >>= 1
    return result


def _apply(matrix: UInt32s, vectors: UInt32s) -> UInt32s:
    """Matrix times each vector; a second matrix is the vectors of its columns."""
    result = np.zeros_like(vectors)
    for bit in range(32):
        result ^= matrix[bit] * ((vectors >> np.uint32(bit)) & np.uint32(1))
    return result
