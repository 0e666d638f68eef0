"""Weights of few bits: int8 matrices as codes and factors, and codes as bytes.

Training with 4 bits (`embbert_tf.quantization.fake_quant.CodeQuantizer`) leaves int8 weights whose
rows are an integer factor times codes -7..7. Stored as codes they take half the bytes, and every
product is the same to the bit: `factor * (codes . x)`. Nothing but the storage knows of them.
docs/kernels.md has the layout, which tflm_app/embbert/src/kernels reads.
"""

import dataclasses

import numpy as np

MOST_CODE = 7
MOST_FACTOR = 18
# Of a token table: two's complement, as many bits as its codes need.
TOKEN_BITS = (2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Coded:
    """An int8 matrix, `factors[:, None] * codes`.

    Attributes:
        codes: (rows, count) int8.
        factors: (rows,) int8, 1..127.
    """

    codes: np.ndarray
    factors: np.ndarray

    def weights(self) -> np.ndarray:
        """Returns the matrix."""
        return (self.codes * self.factors[:, np.newaxis]).astype(np.int8)


def coded(weights: np.ndarray) -> Coded | None:
    """Returns the codes of an int8 matrix (rows, count), or None where a row has no such codes.

    A row's factor is the greatest common divisor of its weights: at most 18, with codes -7..7.
    """
    wide = weights.astype(np.int32)
    factors = np.gcd.reduce(wide, axis=1)
    # A row of one value has a divisor as large as that; a smaller one serves as well.
    for row in np.flatnonzero(factors > MOST_FACTOR):
        factors[row] = next(f for f in range(MOST_FACTOR, 0, -1) if factors[row] % f == 0)
    factors = np.maximum(factors, 1)  # Of a row of zeros.
    codes = wide // factors[:, np.newaxis]
    if np.abs(codes).max(initial=0) > MOST_CODE:
        return None
    return Coded(codes.astype(np.int8), factors.astype(np.int8))


def plain_codes(weights: np.ndarray) -> np.ndarray | None:
    """Returns an int8 matrix that is its own codes, or None where a weight lies beyond -7..7."""
    return None if np.abs(weights.astype(np.int32)).max(initial=0) > MOST_CODE else weights


def coded_table(table: np.ndarray) -> tuple[np.ndarray, int, int] | None:
    """Returns codes, factor and bits of an int8 token table (V, R), or None where it needs 8.

    The whole table has one factor: its columns' scales are in the expansion.
    """
    factor = max(int(np.gcd.reduce(table.astype(np.int32), axis=None)), 1)
    codes = table.astype(np.int32) // factor
    for bits in TOKEN_BITS:
        if -(1 << bits - 1) <= codes.min(initial=0) and codes.max(initial=0) < 1 << bits - 1:
            return codes.astype(np.int8), factor, bits
    return None


def pack_rows(codes: np.ndarray) -> np.ndarray:
    """Packs codes (rows, count) by pairs of rows into (rows / 2, rounded up, count) int8.

    A byte is 16 times the second row's code plus the first's; an odd last row is beside zeros.
    """
    wide = codes.astype(np.int32)
    if len(codes) % 2:
        wide = np.pad(wide, ((0, 1), (0, 0)))
    return (16 * wide[1::2] + wide[::2]).astype(np.int8)


def unpack_rows(packed: np.ndarray, rows: int) -> np.ndarray:
    """Returns the codes (rows, count) of `pack_rows`."""
    first = _signed(packed & 15, 4)
    second = (packed - first) >> 4
    return np.stack([first, second], axis=1).reshape(-1, packed.shape[1])[:rows]


def pack_table(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs codes (V, R) into (V, bytes) int8: in the order of the columns, lowest bits first.

    A row begins at a whole byte; what is left of its last one is 0.
    """
    planes = codes[:, :, np.newaxis] >> np.arange(bits) & 1
    stream = planes.reshape(len(codes), -1).astype(np.uint8)
    return np.packbits(stream, axis=1, bitorder="little").view(np.int8)


def unpack_table(packed: np.ndarray, columns: int, bits: int) -> np.ndarray:
    """Returns the codes (V, columns) of `pack_table`."""
    stream = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")
    planes = stream[:, : columns * bits].reshape(len(packed), columns, bits)
    return _signed((planes << np.arange(bits)).sum(axis=2), bits)


def row_bytes(columns: int, bits: int) -> int:
    """Returns the bytes of a row of a table whose codes have so many bits."""
    return (columns * bits + 7) // 8


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of so many bits to int8."""
    half = 1 << bits - 1
    return ((values.astype(np.int32) ^ half) - half).astype(np.int8)
