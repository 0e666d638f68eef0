"""Texts drawn from files, and what a sentence encoder says of them."""

import functools
import hashlib
import json
import pathlib
import random
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from embbert_tf import errors
from embbert_tf.data import files, plain_text
from embbert_tf.pretraining import corpus
from embbert_tf.pretraining import encoder as encoder_lib
from embbert_tf.pretraining.embeddings import Embeddings, read_metadata, write_embeddings
from embbert_tf.pretraining.options import EmbedOptions

_PASSAGE_WORDS = (20, 180)  # About 256 tokens, the longest that the model reads.
_WORD = re.compile(r"[^\W\d_]{2}")  # What a text has that says something.
_PART = 4096  # Texts of a part, after which a stopped run goes on.
_KEY = "key.json"


def embed_texts(
    inputs: Sequence[files.PathLike],
    output: files.PathLike,
    *,
    encoder: files.PathLike | encoder_lib.Encode,
    options: EmbedOptions | None = None,
) -> None:
    """Writes a sentence encoder's embeddings of texts drawn from files.

    What is finished lies in a folder beside `output`, from which a run that was stopped goes on.

    Example:
    ```text
    embed_texts(["corpus.txt.gz"], "build/embeddings.safetensors", encoder="all-MiniLM-L6-v2")
    ```

    Args:
        inputs: Text files, plain or `.gz`, a document a line.
        output: `.safetensors` file to write; a finished one of the same settings is left as it is.
        encoder: As for `encoder.load_encoder`, or a function of your own from texts to rows.
        options: How many texts, and which.

    Raises:
        CorpusError: A text file cannot be read, or there is no text.
        EncoderError: The encoder cannot be loaded, or does not give a row for each text.
        FileError: `output` cannot be written.
        RunError: `output` or the folder beside it is of other settings.
    """
    options = options or EmbedOptions()
    output = pathlib.Path(output)
    corpus.check_readable(inputs)
    files.check_target(output)
    texts = draw_texts(plain_text.read_documents(inputs), options)
    name = getattr(encoder, "__name__", str(encoder)) if callable(encoder) else str(encoder)
    key = _key(texts, name)
    if output.exists():
        if read_metadata(output).get("key") != key:
            raise errors.RunError(
                f"{output}: holds other embeddings already; choose another file, or delete it"
            )
        print(f"{output}: these embeddings are there already; nothing to do", flush=True)
        return
    parts = _open_parts(output, key)
    encode = encoder if callable(encoder) else encoder_lib.load_encoder(encoder)
    _encode_parts(texts, encode, parts, name)
    rows = np.concatenate([np.load(path) for path in _part_paths(len(texts), parts)])
    write_embeddings(output, Embeddings(texts, rows, name), {"key": key})
    shutil.rmtree(parts, ignore_errors=True)
    print(f"{output}: {len(texts):,} texts, {rows.shape[1]} numbers each", flush=True)


def draw_texts(documents: Iterable[str], options: EmbedOptions) -> list[str]:
    """Cuts documents into sentences and passages and draws some, in random order.

    Every piece has the same chance; where there are fewer than asked for, all are taken. A text
    that occurs twice is taken once.

    Raises:
        CorpusError: There is no text.
    """
    draw = random.Random(options.seed)
    kept: list[str] = []
    seen: set[int] = set()
    for document in documents:
        for text in _pieces(document, options.sentences, draw):
            digest = hash(text)
            if digest in seen or not _WORD.search(text):
                continue
            seen.add(digest)
            if len(kept) < options.count:
                kept.append(text)
            elif (place := draw.randrange(len(seen))) < options.count:
                kept[place] = text
    if not kept:
        raise errors.CorpusError("the texts are empty; expected a document a line")
    draw.shuffle(kept)
    return kept


def _pieces(document: str, share: float, draw: random.Random) -> Iterator[str]:
    """Cuts a document into sentences (`share` of the pieces) and passages of several."""
    sentences = plain_text.split_sentences(document)
    start = 0
    while start < len(sentences):
        words, end = 0, start
        most = 0 if draw.random() < share else draw.randint(*_PASSAGE_WORDS)
        while end < len(sentences):
            words += sentences[end].count(" ") + 1
            if end > start and words > most:
                break
            end += 1
        yield " ".join(sentences[start:end])
        start = end


def _key(texts: Sequence[str], name: str) -> str:
    """Returns what must be the same for a stopped run to go on."""
    digest = hashlib.sha256(name.encode())
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _open_parts(output: pathlib.Path, key: str) -> pathlib.Path:
    """Returns the folder of the parts, made if it is not there.

    Raises:
        FileError: It cannot be made.
        RunError: It is of other settings.
    """
    parts = output.with_name(output.name + ".parts")
    if (parts / _KEY).exists():
        if files.read_json(parts / _KEY).get("key") != key:
            raise errors.RunError(
                f"{parts}: was begun with other settings; give the same flags as before, or delete "
                "it to start again"
            )
        return parts
    files.make_folder(parts)
    files.write_text(parts / _KEY, json.dumps({"key": key}) + "\n")
    return parts


def _part_paths(texts: int, parts: pathlib.Path) -> list[pathlib.Path]:
    return [parts / f"{start:09}.npy" for start in range(0, texts, _PART)]


def _encode_parts(
    texts: Sequence[str], encode: encoder_lib.Encode, parts: pathlib.Path, name: str
) -> None:
    """Encodes the parts that are not there yet, with progress."""
    began, made = time.monotonic(), 0
    for number, path in enumerate(_part_paths(len(texts), parts)):
        part = texts[number * _PART : (number + 1) * _PART]
        if path.exists():
            continue
        rows = np.asarray(encode(part))
        if rows.ndim != 2 or len(rows) != len(part) or not np.isfinite(rows).all():
            raise errors.EncoderError(
                f"{name}: gave an array of shape {list(rows.shape)} for {len(part)} texts; it "
                "must give a row of finite numbers for each"
            )
        save = functools.partial(np.save, arr=rows.astype(np.float16))
        files.write_atomic(path, save)
        made += len(part)
        rate = made / (time.monotonic() - began)
        done = min(len(texts), (number + 1) * _PART)
        print(
            f"{done:,}/{len(texts):,} texts  {rate:,.0f} texts/s  "
            f"{(len(texts) - done) / rate / 60:.0f} minutes left",
            flush=True,
        )
