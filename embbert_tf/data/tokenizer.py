"""Text to token ids: BERT's normalizer, a word splitter and byte-pair encoding.

Built on Hugging Face `tokenizers`; one `tokenizer.json` holds everything. The firmware's C
tokenizer is generated from that file and yields the same ids.
"""

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from embbert_tf import errors
from embbert_tf.data.files import PathLike
from embbert_tf.model import special_tokens


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8192) -> tokenizers.Tokenizer:
    """Learns a BPE vocabulary.

    Example:
    ```python
    from embbert_tf.data.tokenizer import encode, train_tokenizer

    tokenizer = train_tokenizer(["turn on the light", "turn off the light"], vocab_size=100)
    encode(tokenizer, "turn the light on")  # [CLS] ...
    ```

    Args:
        texts: Training texts. They are not kept.
        vocab_size: Upper limit for the number of tokens. Few texts give fewer: merges that occur
            only once are not learnt.

    Returns:
        A tokenizer without post-processing; `encode` adds the special tokens.

    Raises:
        OptionError: `vocab_size` leaves no room beside the special tokens.
    """
    check_vocab_size(vocab_size)
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special_tokens.SPECIAL_TOKENS,
        # An alphabet of every rare character in a large corpus would crowd out the merges.
        limit_alphabet=min(1000, max(1, vocab_size // 4)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def check_vocab_size(vocab_size: int) -> None:
    """Makes sure that a vocabulary has room beside the special tokens.

    Raises:
        OptionError: It has not.
    """
    least = len(special_tokens.SPECIAL_TOKENS)
    if vocab_size <= least:
        raise errors.OptionError(f"vocab_size must be above {least}, not {vocab_size}")


def load_tokenizer(path: PathLike) -> tokenizers.Tokenizer:
    """Reads a `tokenizer.json`.

    Raises:
        TokenizerError: The file cannot be read, its special tokens are not this project's, or its
            ids have gaps.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises plain Exception for every failure.
        raise errors.TokenizerError(f"{path}: not a readable tokenizer.json ({error})") from error
    for index, token in enumerate(special_tokens.SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != index:
            raise errors.TokenizerError(
                f"{path}: {token} must have id {index}, not {tokenizer.token_to_id(token)}"
            )
    # A model has a row for each token, and finds it by its id.
    if max(tokenizer.get_vocab().values()) >= tokenizer.get_vocab_size():
        raise errors.TokenizerError(f"{path}: its ids have gaps; number the tokens from 0 on")
    return tokenizer


def encode(
    tokenizer: tokenizers.Tokenizer,
    text: str,
    text_pair: str | None = None,
    max_length: int = 256,
) -> list[int]:
    """Turns a text, or a pair of texts, into token ids.

    Args:
        tokenizer: From `train_tokenizer` or `load_tokenizer`.
        text: The (first) text.
        text_pair: The second text, or None.
        max_length: Longest result. A single text loses its end; of a pair, the longer text loses
            tokens from its end until the pair fits.

    Returns:
        `[CLS] A`, or `[CLS] A [SEP] B`; between 1 and `max_length` ids, without padding.

    Raises:
        ValueError: if `max_length` has no room for the special tokens.
    """
    first = _body(tokenizer, text)
    if text_pair is None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {max_length}")
        return [special_tokens.CLS, *first[: max_length - 1]]
    if max_length < 2:
        raise ValueError(f"max_length of a pair must be at least 2, not {max_length}")
    second = _body(tokenizer, text_pair)
    room = max_length - 2
    # Longest first: the shorter text keeps up to half of the room, the longer gets the rest. Of an
    # odd room the spare token goes to the longer one, in a draw to the second, as Hugging Face has
    # it.
    half = (room + (len(first) > len(second))) // 2
    keep_first = max(room - len(second), min(len(first), half))
    first = first[:keep_first]
    second = second[: room - len(first)]
    return [special_tokens.CLS, *first, special_tokens.SEP, *second]


def segment_ids(ids: Sequence[int]) -> list[int]:
    """Returns 0 at `[PAD]`, 1 before the first `[SEP]`, 2 from that `[SEP]` on."""
    segments = []
    current = 1
    for token in ids:
        if token == special_tokens.SEP:
            current = 2
        segments.append(0 if token == special_tokens.PAD else current)
    return segments


def _body(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """Encodes a text that may contain the spelling of a special token.

    A user who types "[SEP]" must not start a second segment: special tokens in the text are read as
    unknown tokens.
    """
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return [special_tokens.UNK if token <= special_tokens.SEP else token for token in ids]
