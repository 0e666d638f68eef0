"""What the host's normalizer does to each character, probed character by character."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import joblib
import numpy as np
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from embbert_tf import errors

HANGUL = range(0xAC00, 0xAC00 + 11172)
# All scalar values but Hangul syllables.
_CODES = (*range(HANGUL.start), *range(HANGUL.stop, 0xD800), *range(0xE000, 0x110000))

# The first word character that each version of Unicode added in a block of its own.
_VERSION_PROBES = (
    ((8, 0, 0), 0x108E0),
    ((9, 0, 0), 0x104B0),
    ((10, 0, 0), 0x11A0B),
    ((11, 0, 0), 0x10D00),
    ((12, 0, 0), 0x10FE0),
    ((13, 0, 0), 0x10E80),
    ((14, 0, 0), 0x10570),
    ((15, 0, 0), 0x11F04),
    ((15, 1, 0), 0x2EBF0),
    ((16, 0, 0), 0x105C0),
    ((17, 0, 0), 0x11DB0),
)


class TokenizerTableError(errors.EmbBertError):
    """A tokenizer that the C code cannot reproduce."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """What the installed `tokenizers` does with every scalar value.

    Attributes:
        normalized: Code point -> normalized text, for all scalar values but Hangul syllables.
        kind: Each character that occurs in a normalized text -> "w" (word), "s" (space) or "p".
        shapes: The sequences of kinds that occur, e.g. "w" or "sws".
        shape_of: uint16 (0x110000,): index into `shapes` of a code point's normalized text.
        reordered: Characters that survive normalization and that canonical ordering moves.
        unicode_version: Newest version of Unicode whose letters are word characters.
    """

    normalized: dict[int, str]
    kind: dict[str, str]
    shapes: tuple[str, ...]
    shape_of: np.ndarray
    reordered: tuple[str, ...]
    unicode_version: tuple[int, int, int]


def _normalizer() -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )


def _each(function: Callable[[str], str], codes: Sequence[int]) -> dict[int, str]:
    """Applies a normalization to single characters, many at a time.

    Each stands before a separator, a symbol that nothing combines with and that only itself
    normalizes to.
    """
    separator = "\u2603"
    results = {ord(separator): function(separator)}
    for first in range(0, len(codes), 4096):
        some = [code for code in codes[first : first + 4096] if code != ord(separator)]
        texts = function("".join(chr(code) + separator for code in some)).split(separator)
        if len(texts) != len(some) + 1:
            raise TokenizerTableError("more than one character normalizes to the separator")
        results.update(zip(some, texts[:-1], strict=True))
    return results


def _kinds(characters: Sequence[str]) -> dict[str, str]:
    """Asks the pre-tokenizer which characters are of words ("w"), spaces ("s") or others ("p")."""
    split = pre_tokenizers.Whitespace().pre_tokenize_str
    kinds = {}
    for first in range(0, len(characters), 4096):
        some = characters[first : first + 4096]
        pieces = {start: end for _, (start, end) in split("".join(f"a{c}a " for c in some))}
        for index, character in enumerate(some):
            if pieces[4 * index] == 4 * index + 3:
                kinds[character] = "w"
            else:
                kinds[character] = "p" if 4 * index + 1 in pieces else "s"
    return kinds


def _moved(characters: Sequence[str]) -> list[str]:
    """Returns the characters that canonical ordering moves, of those that do not decompose."""
    # U+0301 has class 230 and U+0316 220: they change places unless starters keep them apart.
    text = "".join(f"a{c}\u0301{c}\u0316" for c in characters)
    if normalizers.NFD().normalize_str(text) == text:
        return []
    if len(characters) == 1:
        return list(characters)
    half = len(characters) // 2
    return _moved(characters[:half]) + _moved(characters[half:])


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What `tokenizers` answers, in a few long strings: they are quick to keep and to read again.

    Attributes:
        normalized: Normalized texts of `_CODES`, each followed by NUL, which none of them contains.
        characters: All characters that occur in them, ascending.
        kinds: "w", "s" or "p" of each of these.
        reordered: As in `Probe`.
        unicode_version: As in `Probe`.
    """

    normalized: str
    characters: str
    kinds: str
    reordered: str
    unicode_version: tuple[int, int, int]


@functools.cache
def probe() -> Probe:
    """Asks `tokenizers` about every scalar value.

    That takes several seconds and depends on nothing but the installed `tokenizers`, so the answers
    are kept in the user's cache folder (`$XDG_CACHE_HOME/embbert-tflm`), which may be deleted at
    any time; where there is none to write to, every process asks anew.

    Raises:
        TokenizerTableError: if a Hangul syllable is not treated as the sequence of its jamo, or the
            probe itself fails.
    """
    answers = joblib.Memory(_cache_folder(), verbose=0).cache(_ask)(tokenizers.__version__)
    normalized = dict(zip(_CODES, answers.normalized.split("\0")[:-1], strict=True))
    kind = dict(zip(answers.characters, answers.kinds, strict=True))
    shape_number: dict[str, int] = {}
    shape_of = np.zeros(0x110000, np.uint16)
    for code, text in normalized.items():
        shape = kind[text] if len(text) == 1 else "".join(kind[c] for c in text)
        shape_of[code] = shape_number.setdefault(shape, len(shape_number))
    return Probe(
        normalized,
        kind,
        tuple(shape_number),
        shape_of,
        tuple(answers.reordered),
        answers.unicode_version,
    )


def _cache_folder() -> str | None:
    """Returns the user's folder for what can be computed again, or None where there is none."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home) / "embbert-tflm"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # The latter where the user has no home.
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def _ask(version: str) -> _Answers:
    """Does what `probe` says; `version`, of `tokenizers`, only tells one answer from another."""
    del version
    codes = sorted((*_CODES, *HANGUL))
    normalized = _each(_normalizer().normalize_str, codes)
    for index, code in enumerate(HANGUL):
        jamo = [0x1100 + index // 588, 0x1161 + index // 28 % 21]
        if index % 28:
            jamo.append(0x11A7 + index % 28)
        if normalized.pop(code) != "".join(normalized[j] for j in jamo):
            raise TokenizerTableError(f"U+{code:04X} does not normalize to its jamo")
    characters = "".join(sorted({c for text in normalized.values() for c in text}))
    decomposed = _each(normalizers.NFD().normalize_str, codes)
    reordered = _moved(
        [chr(code) for code, text in normalized.items() if text and decomposed[code] == chr(code)]
    )
    unicode_version = (0, 0, 0)
    for newer, code in _VERSION_PROBES:
        if _kinds(chr(code))[chr(code)] != "w":
            break
        unicode_version = newer
    return _Answers(
        "".join(f"{normalized[code]}\0" for code in _CODES),
        characters,
        "".join(_kinds(characters).values()),
        "".join(reordered),
        unicode_version,
    )
