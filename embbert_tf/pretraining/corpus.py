"""Plain text as one long row of token ids, kept in a file.

Batches are cut out of it (`batches.py`): each is a pure function of the seed and the step, so that
training can stop and go on at any step, and several workers cut their shares out of the same global
batch without talking.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers

from embbert_tf import errors
from embbert_tf.data import files, plain_text
from embbert_tf.model.special_tokens import SEP, UNK

_SENTENCE_ENDS = (".", "!", "?")
_DOCUMENTS_AT_ONCE = 2000


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All documents, one after the other.

    Attributes:
        ids: int32 (tokens,), token ids without special tokens.
        word_starts: bool (tokens,), True at the first token of each word.
        splits: bool (tokens,), True where a sentence begins that is not its document's first: the
            places where a text can be cut in two that belong together.
    """

    ids: np.ndarray
    word_starts: np.ndarray
    splits: np.ndarray


def tokenize(documents: Iterable[str], tokenizer: tokenizers.Tokenizer) -> Corpus:
    """Encodes documents.

    Args:
        documents: Texts; the spelling of a special token in one is an unknown word.
        tokenizer: From `embbert_tf.data.tokenizer`.

    Raises:
        CorpusError: There is no token in them.
    """
    ends = [tokenizer.token_to_id(end) for end in _SENTENCE_ENDS]
    parts = []
    pending: list[str] = []

    def encode():
        for encoding in tokenizer.encode_batch(pending, add_special_tokens=False):
            if not encoding.ids:
                continue
            ids = np.array(encoding.ids, np.int32)
            # The spelling of a special token in a text is an unknown word.
            ids[ids <= SEP] = UNK
            words = np.array([-1 if word is None else word for word in encoding.word_ids])
            word_starts = np.ones(len(ids), bool)
            word_starts[1:] = words[1:] != words[:-1]
            splits = np.zeros(len(ids), bool)
            splits[1:] = np.isin(ids[:-1], [end for end in ends if end is not None])
            parts.append((ids, word_starts, splits & word_starts))
        pending.clear()

    for document in documents:
        pending.append(document)
        if len(pending) == _DOCUMENTS_AT_ONCE:
            encode()
    encode()
    if not parts:
        raise errors.CorpusError("the texts are empty; expected a document a line")
    return Corpus(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def check_readable(paths: Sequence[files.PathLike]) -> None:
    """Makes sure that there are text files and that each can be opened.

    Raises:
        CorpusError: There is none, or one cannot be opened.
    """
    if not paths:
        raise errors.CorpusError("no text file is given; give at least one")
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise errors.CorpusError(f"{path}: cannot be read ({error.strerror})") from error


def load_or_tokenize(
    paths: Sequence[files.PathLike], tokenizer: tokenizers.Tokenizer, cache: files.PathLike
) -> Corpus:
    """Encodes text files once, and later reads the result back.

    Args:
        paths: As in `read_documents`.
        tokenizer: From `embbert_tf.data.tokenizer`.
        cache: Folder for the encoded corpus; one file for each choice of texts and tokenizer.

    Raises:
        CorpusError: As in `read_documents` and `tokenize`.
        FileError: The cache cannot be written.
    """
    check_readable(paths)
    digest = hashlib.sha256(tokenizer.to_str().encode())
    for path in paths:
        status = os.stat(path)
        digest.update(f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}".encode())
    path = files.make_folder(cache) / f"corpus-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        corpus = tokenize(plain_text.read_documents(paths), tokenizer)
        # One row of the file holds a token: its id, and the two flags in the upper bits.
        packed = corpus.ids | corpus.word_starts.astype(np.int32) << 29
        packed |= corpus.splits.astype(np.int32) << 30
        files.write_atomic(path, lambda temporary: np.save(temporary, packed))
    packed = np.load(path, mmap_mode="r")
    return Corpus(packed & 0x1FFFFFFF, (packed >> 29 & 1).astype(bool), packed >> 30 == 1)
