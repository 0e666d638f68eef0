"""The labels that an encoder learns on the device, in NumPy, with the same integers.

Mirrors `tflm_app/embbert/src/embbert_labels.c`, table included. A row x is the logits less their
zero point; of each sentence the row of length 127, rounded, is added to its label's sum p, and the
answer is the label with the largest cosine, in 1/10000:

    len(v)  = isqrt(65536 sum v²)          256 times the length of v
    unit_i  = x_i 127·256 / len(x)         rounded, halves away from 0
    cos     = (x·p) 10000·65536 / (len(x) len(p))      likewise
"""

import dataclasses
import math
import struct
import zlib

import numpy as np

from embbert_tf import errors

NAME_BYTES = 24  # of a name, its terminating zero included
MOST_SENTENCES = 255
HEADER_BYTES = 32
CONFIDENCE_ONE = 10000  # a cosine of 1
_UNIT = 127
_MAGIC, _VERSION = b"EBLT", 1
_HEADER = struct.Struct("<4s7I")


class LabelError(errors.EmbBertError):
    """A label that cannot be learnt or forgotten, or a table that cannot be used."""


@dataclasses.dataclass(frozen=True)
class LabelAnswer:
    """What the nearest label is.

    Attributes:
        label: Its name; "" where none is learnt.
        confidence: Its cosine in 1/10000, 0 where it is below 0.
        sure: Whether that reaches the threshold.
    """

    label: str
    confidence: int
    sure: bool


@dataclasses.dataclass
class Labels:
    """Labels learnt by one encoder.

    Attributes:
        width: Numbers of a row.
        model: CRC-32 of the model's image, which a table is bound to.
        threshold: Cosine in 1/10000 below which an answer is unsure.
        sums: Of each label, in the order in which they came, int64 (width,).
        sentences: Of each label, how many it has learnt.
    """

    width: int
    model: int = 0
    threshold: int = 0
    sums: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sentences: dict[str, int] = dataclasses.field(default_factory=dict)

    def learn(self, label: str, row: np.ndarray) -> None:
        """Adds a sentence to a label, new or known.

        Args:
            label: Its name.
            row: Integers (width,): the logits less their zero point.

        Raises:
            LabelError: The name is empty or too long, the label is full, or the row is all zero.
        """
        if not 0 < len(label.encode()) < NAME_BYTES or "\0" in label:
            raise LabelError(f"the label {label!r} has not 1 to {NAME_BYTES - 1} bytes of UTF-8")
        if self.sentences.get(label, 0) == MOST_SENTENCES:
            raise LabelError(f"the label {label!r} has learnt {MOST_SENTENCES} sentences already")
        row = np.asarray(row, np.int64)
        length = _length(row)
        if not length:
            raise LabelError("the model says nothing of this text; take another one")
        unit = _divided(row * (_UNIT * 256), length)
        self.sums[label] = self.sums.get(label, 0) + unit
        self.sentences[label] = self.sentences.get(label, 0) + 1

    def forget(self, label: str) -> None:
        """Takes a label out.

        Raises:
            LabelError: There is none of that name.
        """
        if label not in self.sums:
            raise LabelError(f"there is no label {label!r}")
        del self.sums[label], self.sentences[label]

    def cosines(self, row: np.ndarray) -> np.ndarray:
        """Returns int64 (labels,), in 1/10000, of a row as `learn` takes it."""
        row = np.asarray(row, np.int64)
        found = []
        for total in self.sums.values():
            lengths = _length(row) * _length(total)
            product = int(row @ total) * CONFIDENCE_ONE * 65536
            found.append(int(_divided(np.array(product), lengths)) if lengths else 0)
        return np.array(found, np.int64)

    def answer(self, row: np.ndarray) -> LabelAnswer:
        """Returns the nearest label, the first of equals, of a row as `learn` takes it."""
        if not self.sums:
            return LabelAnswer("", 0, False)
        cosines = self.cosines(row)
        best = int(cosines.argmax())
        cosine = int(cosines[best])
        return LabelAnswer(list(self.sums)[best], max(cosine, 0), cosine >= self.threshold)

    def to_bytes(self) -> bytes:
        """Returns the table as the device saves it."""
        body = b""
        for label, total in self.sums.items():
            entry = label.encode(errors="surrogateescape").ljust(NAME_BYTES, b"\0")
            entry += struct.pack("<2H", self.sentences[label], 0) + total.astype("<i2").tobytes()
            body += entry + bytes(-len(entry) % 4)
        fields = (_MAGIC, _VERSION, HEADER_BYTES + len(body))
        after = struct.pack("<4I", self.model, self.width, len(self.sums), 0) + body
        crc = zlib.crc32(after, zlib.crc32(struct.pack("<4s2I", *fields)))
        return struct.pack("<4s3I", *fields, crc) + after

    @classmethod
    def from_bytes(cls, table: bytes, threshold: int = 0) -> "Labels":
        """Reads a table that a device has saved.

        Args:
            table: The file's content.
            threshold: As the attribute of that name.

        Raises:
            LabelError: It is damaged, cut short or no table.
        """
        damaged = LabelError("damaged, cut short or no table of labels")
        if len(table) < HEADER_BYTES:
            raise damaged
        magic, version, size, crc, model, width, count, zero = _HEADER.unpack_from(table)
        entry_bytes = -(-(NAME_BYTES + 4 + 2 * width) // 4) * 4
        whole = (magic, version, zero) == (_MAGIC, _VERSION, 0)
        if not whole or size != HEADER_BYTES + count * entry_bytes or size > len(table):
            raise damaged
        if zlib.crc32(table[16:size], zlib.crc32(table[:12])) != crc:
            raise damaged
        labels = cls(width, model, threshold)
        for start in range(HEADER_BYTES, size, entry_bytes):
            name, end, _ = table[start : start + NAME_BYTES].partition(b"\0")
            (sentences,) = struct.unpack_from("<H", table, start + NAME_BYTES)
            if not name or not end or not 0 < sentences <= MOST_SENTENCES:
                raise damaged
            label = name.decode(errors="surrogateescape")  # the device asks no UTF-8
            labels.sentences[label] = sentences
            total = np.frombuffer(table, "<i2", width, start + NAME_BYTES + 4).astype(np.int64)
            if (np.abs(total) > _UNIT * sentences).any():
                raise damaged
            labels.sums[label] = total
        return labels


def _length(row: np.ndarray) -> int:
    """Returns 256 times the length of a row of integers."""
    return math.isqrt(int(row @ row) << 16)


def _divided(values: np.ndarray, divisor: int) -> np.ndarray:
    """Returns integers divided by one above 0, rounded, halves away from 0."""
    return np.sign(values) * ((np.abs(values) + divisor // 2) // divisor)
