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
import json
import os
import struct
import sys
import tempfile

import numpy as np
import tokenizers
from absl import app, flags

from converters.firmware import perfect_hash, unicode_probe
from embbert_tf.model import special_tokens

VERSION = 1
HEADER_BYTES = 160
# Limits of the C code; see embbert_tokenizer.h.
MAX_TOKEN_LENGTH = 63
MAX_CANDIDATES = 256
MAX_VOCABULARY = 0x7F00

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


@dataclasses.dataclass(frozen=True)
class _Model:
    """The parts of a tokenizer.json that the tables need, checked."""

    vocab: dict[str, int]
    merges: list[tuple[int, int]]
    first_merge: int
    fuse_unknown: bool
    added: list[tuple[bytes, int]]


def _require(condition: bool, path: str, message: str) -> None:
    if not condition:
        raise unicode_probe.TokenizerTableError(f"{path}: {message}")


def _read_model(path: str) -> _Model:
    """Reads and checks a tokenizer.json.

    Raises:
        TokenizerTableError: if the file cannot be read or holds what the C code does not do.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        model = content["model"]
        vocab = model["vocab"]
        raw_merges = model["merges"]
        normalizer = dict(content["normalizer"] or {})
        pre_tokenizer = dict(content["pre_tokenizer"] or {})
        added_tokens = content["added_tokens"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unicode_probe.TokenizerTableError(
            f"{path}: not a readable tokenizer.json ({error!r})"
        ) from error
    _require(model.get("type") == "BPE", path, f"the model must be BPE, not {model.get('type')}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        _require(not model.get(option), path, f"the BPE model must not set {option}")
    for option in ("byte_fallback", "ignore_merges"):
        _require(not model.get(option), path, f"the BPE model must not set {option}")
    _require(model.get("unk_token") == "[UNK]", path, "the unknown token must be [UNK]")
    wanted = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": True,
        "lowercase": True,
    }
    _require(
        normalizer == wanted
        or normalizer == {**wanted, "strip_accents": None},  # None means: as lowercase.
        path,
        f"the normalizer must be {wanted}, not {normalizer}",
    )
    _require(
        pre_tokenizer == {"type": "Whitespace"},
        path,
        f"the pre-tokenizer must be Whitespace, not {pre_tokenizer}",
    )
    for index, token in enumerate(special_tokens.SPECIAL_TOKENS):
        _require(vocab.get(token) == index, path, f"{token} must have id {index}")
    _require(
        sorted(vocab.values()) == list(range(len(vocab))), path, "the ids must be 0, 1, 2, ..."
    )
    _require(
        len(vocab) <= MAX_VOCABULARY,
        path,
        f"the vocabulary has {len(vocab)} tokens; the C tokenizer takes {MAX_VOCABULARY}",
    )
    _require(len(raw_merges) > 0, path, "no merges: train on more text")

    first_merge = len(vocab) - len(raw_merges)
    merges = []
    for rank, merge in enumerate(raw_merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        _require(
            vocab.get(left + right) == first_merge + rank,
            path,
            f"merge {rank} ({left!r} {right!r}) must make token {first_merge + rank}: ids must be "
            "in the order of the merges, as BpeTrainer assigns them",
        )
        merges.append((vocab[left], vocab[right]))
        _require(max(merges[-1]) < first_merge + rank, path, f"merge {rank} uses a later token")
    for token, index in vocab.items():
        _require(
            index >= first_merge or len(token) == 1 or index < len(special_tokens.SPECIAL_TOKENS),
            path,
            f"token {token!r} is neither special, nor a character, nor the result of a merge",
        )

    added = []
    for token in added_tokens:
        content = token["content"]
        flags_set = [f for f in ("single_word", "lstrip", "rstrip", "normalized") if token[f]]
        _require(not flags_set, path, f"added token {content!r} must not set {flags_set}")
        encoded = content.encode()
        _require(
            0 < len(encoded) < 256 and encoded[0] < 0x80 and "\ufffd" not in content,
            path,
            f"added token {content!r} must start with an ASCII character and be below 256 bytes",
        )
        # As embbert_tf.data.tokenizer.encode has it: a typed "[SEP]" must not start a second segment.
        index = token["id"]
        added.append((encoded, special_tokens.UNK if index <= special_tokens.SEP else index))
        _require(index < len(vocab), path, f"added token {content!r} is not in the vocabulary")
    added.sort(key=lambda item: (-len(item[0]), item[0]))
    return _Model(vocab, merges, first_merge, bool(model.get("fuse_unk")), added)


def _encode_characters(model: _Model, pairs: dict[tuple[int, int], int], text: str) -> list[int]:
    """Merges the characters of one word by the definition of byte-pair encoding."""
    ids = [model.vocab[c] for c in text]
    while len(ids) > 1:
        best, at = min(
            (pairs.get((ids[i], ids[i + 1]), MAX_VOCABULARY), i) for i in range(len(ids) - 1)
        )
        if best == MAX_VOCABULARY:
            break
        ids[at : at + 2] = [best]
    return ids


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


def build_tables(path: str) -> bytes:
    """Makes the blob for a tokenizer.json.

    Args:
        path: File that `embbert_tf.data.tokenizer.train_tokenizer(...).save` wrote.

    Returns:
        The blob; a multiple of 4 bytes.

    Raises:
        TokenizerTableError: if the C tokenizer could not reproduce this tokenizer.
    """
    model = _read_model(path)
    facts = unicode_probe.probe()
    unknown = special_tokens.UNK

    def symbol(character: str) -> int:
        kind = facts.kind[character]
        if kind == "s":
            return _SPACE
        return (_WORD if kind == "w" else 0) | model.vocab.get(character, unknown)

    # The C code leaves canonical ordering out: it moves only marks, and nearly all are stripped.
    moved = {symbol(c): c for c in facts.reordered}
    _require(
        len(moved) <= 1,
        path,
        "the vocabulary holds combining marks whose order matters: "
        + ", ".join(f"U+{ord(c):04X}" for c in moved.values() if c in model.vocab),
    )

    # Only texts with a character of the vocabulary depend on it; the rest differ by shape alone.
    letters = {token for token in model.vocab if len(token) == 1}
    expansions = {
        code: tuple(map(symbol, text))
        for code, text in facts.normalized.items()
        if not letters.isdisjoint(text)
    }
    generic = {"w": _WORD | unknown, "p": unknown, "s": _SPACE}
    shapes = [tuple(generic[kind] for kind in shape) for shape in facts.shapes]
    shape_of = facts.shape_of.astype(np.int64)
    shape_of[list(expansions)] = -1
    shape_of[unicode_probe.HANGUL.start : unicode_probe.HANGUL.stop] = -1
    shape_of[0xD800:0xE000] = -1
    count = collections.Counter(expansions.values())
    for number, expansion in enumerate(shapes):
        count[expansion] += int((shape_of == number).sum())
    # The 15 most frequent expansions are classes of their own, the others are listed.
    frequent = sorted(count, key=lambda e: (-count[e], e))[:_NUM_CLASSES]
    class_of = {expansion: index for index, expansion in enumerate(frequent)}
    classes = np.zeros(0x110000, np.uint8)
    exceptions = {}
    for number, expansion in enumerate(shapes):
        of_shape = shape_of == number
        classes[of_shape] = class_of.get(expansion, _NUM_CLASSES)
        if expansion not in class_of:
            exceptions.update((int(code), expansion) for code in np.flatnonzero(of_shape))
    for code, expansion in expansions.items():
        classes[code] = class_of.get(expansion, _NUM_CLASSES)
        if expansion not in class_of:
            exceptions[code] = expansion
    exceptions = dict(sorted(exceptions.items()))
    top, middle, pages, runs = _class_tables(classes)
    frequent += [()] * (_NUM_CLASSES - len(frequent))
    symbols: list[int] = []
    starts = [0]
    for expansion in (*frequent, *exceptions.values()):
        symbols += expansion
        starts.append(len(symbols))
    _require(len(symbols) < 65536, path, "the vocabulary has too many characters")

    first_bytes = {encoded[0] for encoded, _ in model.added}
    ascii_table = []
    for code in range(128):
        expansion = tuple(map(symbol, facts.normalized[code]))
        if code in first_bytes or len(expansion) > 1:
            ascii_table.append(_TRY_ADDED)
        else:
            ascii_table.append(expansion[0] if expansion else _REMOVED)

    pairs = {merge: model.first_merge + rank for rank, merge in enumerate(model.merges)}
    text_of = {index: token for token, index in model.vocab.items()}
    longest = 1
    most_suffixes = 1
    for index in range(model.first_merge, len(text_of)):
        token = text_of[index]
        longest = max(longest, len(token))
        _require(
            len(token) <= MAX_TOKEN_LENGTH,
            path,
            f"token {token!r} has {len(token)} characters; the limit is {MAX_TOKEN_LENGTH}",
        )
        # Tokens that BPE never makes would void the argument behind the code for long words.
        _require(
            _encode_characters(model, pairs, token) == [index],
            path,
            f"token {token!r} is never the encoding of its own text",
        )
        suffixes = sum(token[i:] in model.vocab for i in range(len(token)))
        most_suffixes = max(most_suffixes, suffixes)
    _require(
        (longest + 1) * most_suffixes <= MAX_CANDIDATES,
        path,
        f"tokens of up to {longest} characters with {most_suffixes} nested endings need more "
        "working memory than the C tokenizer has",
    )

    # A pair must be readable with one 32-bit load at a byte: 2 * 13 bits + 6 bits of offset, or 32.
    id_bits = max(1, (len(model.vocab) - 1).bit_length())
    id_bits = id_bits if id_bits <= 13 else 16
    keys = np.array([left | right << id_bits for left, right in model.merges], np.uint32)
    seeds, slots = perfect_hash.perfect_hash(keys)
    bits = (keys[:, None] >> np.arange(2 * id_bits, dtype=np.uint32) & 1).astype(np.uint8)
    packed_pairs = np.packbits(bits, bitorder="little").tobytes() + bytes(3)
    added = b"".join(struct.pack("<HB", index, len(e)) + e for e, index in model.added)
    u16 = lambda values: np.asarray(values, "<u2").tobytes()  # noqa: E731
    sections = {
        "ascii": u16(ascii_table),
        "top": top,
        "middle": middle,
        "pages": pages,
        "runs": runs,
        "exceptions": np.asarray(list(exceptions), "<u4").tobytes(),
        "starts": u16(starts),
        "symbols": u16(symbols),
        "pairs": packed_pairs,
        "seeds": u16(seeds),
        "slots": u16(slots),
        "added": added,
    }
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    made_by = f"tokenizer_tables.py {VERSION}, tokenizers {tokenizers.__version__}, json {digest}"
    body = bytearray()
    offsets = []
    for name in _SECTIONS:
        offsets.append(HEADER_BYTES + len(body))
        body += sections[name] + bytes(-len(sections[name]) % 4)
    header = struct.pack(
        "<4sHHI8H4B4B4H12I68s",
        b"EBTK",
        VERSION,
        HEADER_BYTES,
        HEADER_BYTES + len(body),
        len(model.vocab),
        model.first_merge,
        len(model.merges),
        len(seeds),
        len(slots),
        len(exceptions),
        len(symbols),
        len(model.added),
        longest,
        most_suffixes,
        model.fuse_unknown,
        id_bits,
        *facts.unicode_version,
        0,
        len(middle) // 16,
        len(pages) // 2 - 1,
        len(runs) // 2,
        len(added),
        *offsets,
        made_by.encode()[:67],
    )
    assert len(header) == HEADER_BYTES
    return bytes(header + body)


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


def describe(blob: bytes) -> Description:
    """Reads the header of a blob.

    Raises:
        TokenizerTableError: if `blob` is not a blob of this version.
    """
    if len(blob) < HEADER_BYTES or blob[:4] != b"EBTK":
        raise unicode_probe.TokenizerTableError("not a tokenizer's tables")
    fields = struct.unpack_from("<4sHHI8H4B4B4H12I68s", blob)
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


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    try:
        blob = build_tables(flags.FLAGS.tokenizer)
        folder = os.path.dirname(os.path.abspath(flags.FLAGS.output))
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(blob)
        os.chmod(file.name, 0o644)
        os.replace(file.name, flags.FLAGS.output)
    except (unicode_probe.TokenizerTableError, OSError) as error:
        print(f"tokenizer_tables: {error}", file=sys.stderr)
        sys.exit(1)
    description = describe(blob)
    for name, size in description.sections.items():
        print(f"{name:12s} {size:6d} bytes")
    print(f"{'all':12s} {description.total:6d} bytes")
    print(f"Unicode {description.unicode_version}; {description.made_by}")


if __name__ == "__main__":
    # Not above: other commands import this module and have flags of their own.
    flags.DEFINE_string("tokenizer", None, "tokenizer.json to read.")
    flags.DEFINE_string("output", None, "File to write the tables to.")
    flags.mark_flags_as_required(["tokenizer", "output"])
    app.run(_main)
