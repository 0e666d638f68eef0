"""Turns a `tokenizer.json` into the table blob that the C tokenizer reads in place.

The blob holds the merges and all that the C code needs to know about Unicode. Nothing in it comes
from a Unicode database: the installed `tokenizers` is asked what it does with each of the 1,112,064
scalar values, so the device does the same, whatever versions of Unicode that library mixes.

Layout, little-endian, each table at a multiple of 4 (twin: embbert_tokenizer.c in
tflm_app/embbert/src):

| byte | type | field |
| --- | --- | --- |
| 0 | char[4] | "EBTK" |
| 4 | u16, u16 | layout version, header bytes (160) |
| 8 | u32 | bytes in all |
| 12 | u16 x 8 | vocabulary, first merge's id, merges, buckets, slots, exceptions, symbols, added \
tokens |
| 28 | u8 x 4 | longest token in characters, most tokens ending at one character, fuse unknown, \
id bits |
| 32 | u8 x 4 | Unicode version of the word class: major, minor, patch, 0 |
| 36 | u16 x 4 | rows of "middle", pages, runs, bytes of the added-token list |
| 44 | u32 x 12 | offsets of the tables, in the order of `_SECTIONS` |
| 92 | char[68] | what made it, zero padded |

A symbol is a normalized character: bit 15 says whether it is a word character, the rest is its
token id; 0x7FFF is a space, and in the ASCII table 0x7FFE is a removed character and 0x7FFD one
that may start an added token.
"""

import collections
import dataclasses
import hashlib
import struct
from collections.abc import Iterable

import numpy as np
import tokenizers

from converters.firmware import perfect_hash, tokenizer_model, unicode_probe
from converters.firmware.tokenizer_model import TokenizerModel, require
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.model import special_tokens

VERSION = 1
HEADER_BYTES = 160
# Limits of the C code; see embbert_tokenizer.h.
MAX_TOKEN_LENGTH = 63
MAX_CANDIDATES = 256

_SECTIONS = (
    "ascii",
    "top",
    "middle",
    "pages",
    "runs",
    "exceptions",
    "starts",
    "symbols",
    "pairs",
    "seeds",
    "slots",
    "added",
)
_WORD = 0x8000
_SPACE = 0x7FFF
_REMOVED = 0x7FFE
_TRY_ADDED = 0x7FFD
_NUM_CLASSES = 15
_GENERIC = {"w": _WORD | special_tokens.UNK, "p": special_tokens.UNK, "s": _SPACE}
_HEADER = "<4sHHI8H4B4B4H12I68s"

Expansion = tuple[int, ...]  # The symbols that a code point normalizes to.


def build_tables(path: files.PathLike) -> bytes:
    """Makes the blob for a tokenizer.json.

    Args:
        path: File that `embbert_tf.data.tokenizer.train_tokenizer(...).save` wrote.

    Returns:
        The blob; a multiple of 4 bytes.

    Raises:
        TokenizerTableError: The file cannot be read, or the C tokenizer could not reproduce this
            tokenizer.
    """
    try:
        content = files.read_bytes(path)
    except errors.FileError as error:
        raise unicode_probe.TokenizerTableError(
            f"{path}: not a readable tokenizer.json ({error})"
        ) from error
    return tables_of(content, str(path))


def tables_of(content: bytes, where: str) -> bytes:
    """As `build_tables`, of the content of a tokenizer.json.

    Args:
        content: Of the file.
        where: Its path, for messages.
    """
    model = tokenizer_model.read(content, where)
    facts = unicode_probe.probe()
    expansions = _Expansions(model, facts)
    longest, most_suffixes = _check_tokens(model)
    tables = {
        **expansions.tables(),
        **_merge_tables(model),
        "added": b"".join(struct.pack("<HB", index, len(e)) + e for e, index in model.added),
    }
    digest = hashlib.sha256(content).hexdigest()[:16]
    made_by = f"tokenizer_tables.py {VERSION}, tokenizers {tokenizers.__version__}, json {digest}"
    body, offsets = bytearray(), []
    for name in _SECTIONS:
        offsets.append(HEADER_BYTES + len(body))
        body += tables[name] + bytes(-len(tables[name]) % 4)
    header = struct.pack(
        _HEADER,
        b"EBTK",
        VERSION,
        HEADER_BYTES,
        HEADER_BYTES + len(body),
        len(model.vocab),
        model.first_merge,
        len(model.merges),
        len(tables["seeds"]) // 2,
        len(tables["slots"]) // 2,
        len(tables["exceptions"]) // 4,
        len(tables["symbols"]) // 2,
        len(model.added),
        longest,
        most_suffixes,
        model.fuse_unknown,
        _id_bits(model),
        *facts.unicode_version,
        0,
        len(tables["middle"]) // 16,
        len(tables["pages"]) // 2 - 1,
        len(tables["runs"]) // 2,
        len(tables["added"]),
        *offsets,
        made_by.encode()[:67],
    )
    assert len(header) == HEADER_BYTES
    return bytes(header + body)


def _u16(values: Iterable[int] | np.ndarray) -> bytes:
    return np.asarray(values, "<u2").tobytes()


class _Expansions:
    """What every code point normalizes to, as symbols of one tokenizer."""

    def __init__(self, model: TokenizerModel, facts: unicode_probe.Probe) -> None:
        self._model, self._facts = model, facts
        # The C code leaves canonical ordering out: it moves only marks, and nearly all are
        # stripped.
        moved = {self._symbol(c): c for c in facts.reordered}
        require(
            len(moved) <= 1,
            model.where,
            "the vocabulary holds combining marks whose order matters: "
            + ", ".join(f"U+{ord(c):04X}" for c in moved.values() if c in model.vocab),
        )

    def _symbol(self, character: str) -> int:
        kind = self._facts.kind[character]
        if kind == "s":
            return _SPACE
        token = self._model.vocab.get(character, special_tokens.UNK)
        return (_WORD if kind == "w" else 0) | token

    def _expansion(self, text: str) -> Expansion:
        return tuple(map(self._symbol, text))

    def tables(self) -> dict[str, bytes]:
        """Returns the tables that the C code finds a code point's symbols in, by name."""
        classes, frequent, exceptions = self._classes()
        top, middle, pages, runs = _class_tables(classes)
        symbols: list[int] = []
        starts = [0]
        for expansion in (*frequent, *exceptions.values()):
            symbols += expansion
            starts.append(len(symbols))
        where = self._model.where
        require(len(symbols) < 65536, where, "the vocabulary has too many characters")
        return {
            "ascii": _u16(self._ascii()),
            "top": top,
            "middle": middle,
            "pages": pages,
            "runs": runs,
            "exceptions": np.asarray(list(exceptions), "<u4").tobytes(),
            "starts": _u16(starts),
            "symbols": _u16(symbols),
        }

    def _classes(self) -> tuple[np.ndarray, list[Expansion], dict[int, Expansion]]:
        """Tells frequent expansions, which get a class each, from the others, which are listed.

        Returns:
            uint8 (0x110000,) class of a code point, `_NUM_CLASSES` for a listed one; the classes'
            expansions, `_NUM_CLASSES` of them; and the listed expansions by code point, in order.
        """
        facts = self._facts
        # Only texts with a character of the vocabulary depend on it; the rest differ by shape
        # alone.
        letters = {token for token in self._model.vocab if len(token) == 1}
        expansions = {
            code: self._expansion(text)
            for code, text in facts.normalized.items()
            if not letters.isdisjoint(text)
        }
        shapes = [tuple(_GENERIC[kind] for kind in shape) for shape in facts.shapes]
        shape_of = facts.shape_of.astype(np.int64)
        shape_of[list(expansions)] = -1
        shape_of[unicode_probe.HANGUL.start : unicode_probe.HANGUL.stop] = -1
        shape_of[0xD800:0xE000] = -1
        count = collections.Counter(expansions.values())
        for number, expansion in enumerate(shapes):
            count[expansion] += int((shape_of == number).sum())
        frequent = sorted(count, key=lambda e: (-count[e], e))[:_NUM_CLASSES]
        class_of = {expansion: index for index, expansion in enumerate(frequent)}
        classes = np.zeros(0x110000, np.uint8)
        exceptions: dict[int, Expansion] = {}
        for number, expansion in enumerate(shapes):
            of_shape = shape_of == number
            classes[of_shape] = class_of.get(expansion, _NUM_CLASSES)
            if expansion not in class_of:
                exceptions.update((int(code), expansion) for code in np.flatnonzero(of_shape))
        for code, expansion in expansions.items():
            classes[code] = class_of.get(expansion, _NUM_CLASSES)
            if expansion not in class_of:
                exceptions[code] = expansion
        frequent += [()] * (_NUM_CLASSES - len(frequent))
        return classes, frequent, dict(sorted(exceptions.items()))

    def _ascii(self) -> list[int]:
        """Returns the symbol of each of the 128 ASCII characters."""
        first_bytes = {encoded[0] for encoded, _ in self._model.added}
        table = []
        for code in range(128):
            expansion = self._expansion(self._facts.normalized[code])
            if code in first_bytes or len(expansion) > 1:
                table.append(_TRY_ADDED)
            else:
                table.append(expansion[0] if expansion else _REMOVED)
        return table


def _class_tables(classes: np.ndarray) -> tuple[bytes, bytes, bytes, bytes]:
    """Packs a class (0..15) for each of 0x110000 code points.

    Returns:
        top: u8 (272,): row of `middle` for 4,096 code points.
        middle: u8 (rows, 16): page for 256 code points.
        pages: u16 (pages + 1,): where a page starts in `runs`.
        runs: u16: class << 8 | low byte of the last code point of a run of one class.
    """
    rows, page_of = np.unique(classes.reshape(-1, 256), axis=0, return_inverse=True)
    middles, top = np.unique(page_of.reshape(-1, 16), axis=0, return_inverse=True)
    if len(rows) > 256 or len(middles) > 256:
        raise unicode_probe.TokenizerTableError("the character classes do not fit their tables")
    pages = [0]
    runs: list[int] = []
    for row in rows:
        last = np.append(np.flatnonzero(np.diff(row)), 255)
        runs += (row[last].astype(int) << 8 | last).tolist()
        pages.append(len(runs))
    return (
        top.astype(np.uint8).tobytes(),
        middles.astype(np.uint8).tobytes(),
        np.asarray(pages, "<u2").tobytes(),
        np.asarray(runs, "<u2").tobytes(),
    )


def _check_tokens(model: TokenizerModel) -> tuple[int, int]:
    """Makes sure that the C code has room for every token and finds it.

    Returns:
        Characters of the longest token; most tokens that end at one character.
    """
    pairs = {merge: model.first_merge + rank for rank, merge in enumerate(model.merges)}
    text_of = {index: token for token, index in model.vocab.items()}
    longest = most_suffixes = 1
    for index in range(model.first_merge, len(text_of)):
        token = text_of[index]
        longest = max(longest, len(token))
        require(
            len(token) <= MAX_TOKEN_LENGTH,
            model.where,
            f"token {token!r} has {len(token)} characters; the limit is {MAX_TOKEN_LENGTH}",
        )
        # Tokens that BPE never makes would void the argument behind the code for long words.
        require(
            _encode_characters(model, pairs, token) == [index],
            model.where,
            f"token {token!r} is never the encoding of its own text",
        )
        suffixes = sum(token[i:] in model.vocab for i in range(len(token)))
        most_suffixes = max(most_suffixes, suffixes)
    require(
        (longest + 1) * most_suffixes <= MAX_CANDIDATES,
        model.where,
        f"tokens of up to {longest} characters with {most_suffixes} nested endings need more "
        "working memory than the C tokenizer has",
    )
    return longest, most_suffixes


def _encode_characters(
    model: TokenizerModel, pairs: dict[tuple[int, int], int], text: str
) -> list[int]:
    """Merges the characters of one word by the definition of byte-pair encoding."""
    ids = [model.vocab[c] for c in text]
    while len(ids) > 1:
        best, at = min(
            (pairs.get((ids[i], ids[i + 1]), tokenizer_model.MAX_VOCABULARY), i)
            for i in range(len(ids) - 1)
        )
        if best == tokenizer_model.MAX_VOCABULARY:
            break
        ids[at : at + 2] = [best]
    return ids


def _id_bits(model: TokenizerModel) -> int:
    """Returns the bits of a packed id.

    A pair must be readable with one 32-bit load at a byte: 2 * 13 bits + 6 bits of offset, or 32.
    """
    id_bits = max(1, (len(model.vocab) - 1).bit_length())
    return id_bits if id_bits <= 13 else 16


def _merge_tables(model: TokenizerModel) -> dict[str, bytes]:
    """Returns the perfect hash of the merges, by name of table."""
    id_bits = _id_bits(model)
    keys = np.array([left | right << id_bits for left, right in model.merges], np.uint32)
    seeds, slots = perfect_hash.perfect_hash(keys)
    bits = (keys[:, None] >> np.arange(2 * id_bits, dtype=np.uint32) & 1).astype(np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes() + bytes(3)
    return {"pairs": packed, "seeds": _u16(seeds), "slots": _u16(slots)}


@dataclasses.dataclass(frozen=True)
class Description:
    """What a blob says about itself; sizes in bytes."""

    made_by: str
    unicode_version: str
    vocab_size: int
    max_token_length: int
    max_suffixes: int
    total: int
    sections: dict[str, int]

    def __str__(self) -> str:
        """Returns a line a section, all of them, and what made them."""
        sizes = {**self.sections, "all": self.total}
        lines = [f"{name:12s} {size:6d} bytes" for name, size in sizes.items()]
        return "\n".join([*lines, f"Unicode {self.unicode_version}; {self.made_by}"])


def describe(blob: bytes) -> Description:
    """Reads the header of a blob.

    Raises:
        TokenizerTableError: if `blob` is not a blob of this version.
    """
    if len(blob) < HEADER_BYTES or blob[:4] != b"EBTK":
        raise unicode_probe.TokenizerTableError("not a tokenizer's tables")
    fields = struct.unpack_from(_HEADER, blob)
    if fields[1] != VERSION:
        raise unicode_probe.TokenizerTableError(f"tables of version {fields[1]}, not {VERSION}")
    offsets = [*fields[24:36], fields[3]]
    return Description(
        made_by=fields[36].rstrip(b"\0").decode(),
        unicode_version=".".join(map(str, fields[16:19])),
        vocab_size=fields[4],
        max_token_length=fields[12],
        max_suffixes=fields[13],
        total=fields[3],
        sections={
            name: after - offset
            for name, offset, after in zip(_SECTIONS, offsets, offsets[1:], strict=False)
        },
    )
