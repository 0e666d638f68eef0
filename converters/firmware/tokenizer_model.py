"""The parts of a `tokenizer.json` that the C tokenizer reproduces, read and checked."""

import dataclasses
import json
from typing import Any

from converters.firmware.unicode_probe import TokenizerTableError
from embbert_tf.model import special_tokens

MAX_VOCABULARY = 0x7F00  # A limit of the C code; see embbert_tokenizer.h.


@dataclasses.dataclass(frozen=True)
class TokenizerModel:
    """Byte-pair encoding as the tables need it.

    Attributes:
        vocab: Token -> id; ids are 0, 1, 2, ...
        merges: Pairs of ids; merge number i makes token `first_merge` + i.
        first_merge: Id of the first merge's result.
        fuse_unknown: Whether unknown characters side by side are one unknown token.
        added: UTF-8 and id of tokens that are found before all else, longest first.
        where: What to call the file in messages.
    """

    vocab: dict[str, int]
    merges: list[tuple[int, int]]
    first_merge: int
    fuse_unknown: bool
    added: list[tuple[bytes, int]]
    where: str


def require(condition: bool, where: str, message: str) -> None:
    """Raises TokenizerTableError with place and message unless `condition` holds."""
    if not condition:
        raise TokenizerTableError(f"{where}: {message}")


def read(content: bytes, where: str) -> TokenizerModel:
    """Reads and checks a tokenizer.json.

    Args:
        content: Of the file.
        where: Its path, for messages.

    Raises:
        TokenizerTableError: It is unreadable, or asks for what the C code does not do.
    """
    try:
        parts = json.loads(content)
        model, added_tokens = parts["model"], parts["added_tokens"]
        vocab, raw_merges = model["vocab"], model["merges"]
        normalizer = dict(parts["normalizer"] or {})
        pre_tokenizer = dict(parts["pre_tokenizer"] or {})
        _check_kind(model, normalizer, pre_tokenizer, where)
        _check_vocabulary(vocab, raw_merges, where)
        first_merge = len(vocab) - len(raw_merges)
        merges = _merges(vocab, raw_merges, first_merge, where)
        added = _added(added_tokens, len(vocab), where)
    except TokenizerTableError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenizerTableError(f"{where}: not a readable tokenizer.json ({error!r})") from error
    return TokenizerModel(vocab, merges, first_merge, bool(model.get("fuse_unk")), added, where)


def _check_kind(
    model: dict[str, Any], normalizer: dict[str, Any], pre_tokenizer: dict[str, Any], where: str
) -> None:
    require(model.get("type") == "BPE", where, f"the model must be BPE, not {model.get('type')}")
    for option in (
        "dropout",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        require(not model.get(option), where, f"the BPE model must not set {option}")
    require(model.get("unk_token") == "[UNK]", where, "the unknown token must be [UNK]")
    wanted = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": True,
        "lowercase": True,
    }
    require(
        normalizer == wanted
        or normalizer == {**wanted, "strip_accents": None},  # None means: as lowercase.
        where,
        f"the normalizer must be {wanted}, not {normalizer}",
    )
    require(
        pre_tokenizer == {"type": "Whitespace"},
        where,
        f"the pre-tokenizer must be Whitespace, not {pre_tokenizer}",
    )


def _check_vocabulary(vocab: dict[str, int], raw_merges: list[Any], where: str) -> None:
    for index, token in enumerate(special_tokens.SPECIAL_TOKENS):
        require(vocab.get(token) == index, where, f"{token} must have id {index}")
    ordered = sorted(vocab.values()) == list(range(len(vocab)))
    require(ordered, where, "the ids must be 0, 1, 2, ...")
    require(
        len(vocab) <= MAX_VOCABULARY,
        where,
        f"the vocabulary has {len(vocab)} tokens; the C tokenizer takes {MAX_VOCABULARY}",
    )
    require(len(raw_merges) > 0, where, "no merges: train on more text")
    first_merge = len(vocab) - len(raw_merges)
    for token, index in vocab.items():
        require(
            index >= first_merge or len(token) == 1 or index < len(special_tokens.SPECIAL_TOKENS),
            where,
            f"token {token!r} is neither special, nor a character, nor the result of a merge",
        )


def _merges(
    vocab: dict[str, int], raw_merges: list[Any], first_merge: int, where: str
) -> list[tuple[int, int]]:
    merges = []
    for rank, merge in enumerate(raw_merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        require(
            vocab.get(left + right) == first_merge + rank,
            where,
            f"merge {rank} ({left!r} {right!r}) must make token {first_merge + rank}: ids must be "
            "in the order of the merges, as BpeTrainer assigns them",
        )
        merges.append((vocab[left], vocab[right]))
        require(max(merges[-1]) < first_merge + rank, where, f"merge {rank} uses a later token")
    return merges


def _added(
    added_tokens: list[dict[str, Any]], vocab_size: int, where: str
) -> list[tuple[bytes, int]]:
    added = []
    for token in added_tokens:
        content = token["content"]
        flags_set = [f for f in ("single_word", "lstrip", "rstrip", "normalized") if token[f]]
        require(not flags_set, where, f"added token {content!r} must not set {flags_set}")
        encoded = content.encode()
        require(
            0 < len(encoded) < 256 and encoded[0] < 0x80 and "\ufffd" not in content,
            where,
            f"added token {content!r} must start with an ASCII character and be below 256 bytes",
        )
        # As embbert_tf.data.tokenizer.encode does: a typed "[SEP]" must not start a second segment.
        index = token["id"]
        require(index < vocab_size, where, f"added token {content!r} is not in the vocabulary")
        added.append((encoded, special_tokens.UNK if index <= special_tokens.SEP else index))
    return sorted(added, key=lambda item: (-len(item[0]), item[0]))
