"""A small random model for the firmware's tests: an image, and the reference that it must equal."""

import functools
import json
import os
import pathlib
import random
import subprocess
import tempfile

import numpy as np

from converters.firmware import model_image, tokenizer_tables
from converters.kernels import reference
from converters.kernels.int8_model import Int8Block, Int8Model
from embbert_tf.data import tokenizer as tokenizer_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "tflm_app"
LABELS = ["light on", "light off", 'say "hi"', "größer"]
SENTENCES = [
    "turn on the kitchen light",
    "switch the lamp in the hall off, please",
    "Größer, breiter, höher!",
    "what's the weather like in São Paulo tomorrow?",
    'he said "hello" and left; 1,024 times',
    "x",
    "日本語 and emoji 🙂 mixed",
    "volume up up up up up up up up up up up up up up up up up up up up up up up up up up",
]


def random_model(
    tokenizer,
    *,
    d: int = 16,
    r: int = 4,
    e: int = 1,
    k: int = 4,
    blocks: int = 2,
    labels: int = len(LABELS),
    max_length: int = 32,
    pair: bool = False,
    logits_scale: float = 0.05,
    seed: int = 1,
) -> Int8Model:
    """An int8 model with random weights and scales that use the range of every activation."""
    rng = np.random.default_rng(seed)
    vocab_size = tokenizer.get_vocab_size()

    def weights(*shape):
        return rng.integers(-127, 128, shape).astype(np.int8)

    def block(taps):
        return Int8Block(
            d=d,
            e=e,
            k=k,
            x_scale=0.02,
            x_zero=3,
            xhat_scale=3 / 127,
            wq=weights(d, d),
            wq_scale=0.01,
            bq=rng.integers(-500, 500, d).astype(np.int32),
            q_scale=0.08,
            q_zero=-2,
            wv=weights(d, d),
            wv_scale=0.004,
            conv=weights(taps, e * d),
            conv_scale=np.full(e * d, 0.006, np.float32),
            conv_bias=rng.integers(-500, 500, e * d).astype(np.int32),
            y_scale=0.05,
            y_zero=-1,
            s_scale=0.03,
            s_zero=-118,
            wz=weights(d, e * d),
            wz_scale=0.005,
            bz=rng.integers(-500, 500, d).astype(np.int32),
            out_scale=0.02,
            out_zero=3,
        )

    return Int8Model(
        vocab_size=vocab_size,
        r=r,
        max_length=max_length,
        d=d,
        labels=labels,
        pair=pair,
        token=weights(vocab_size, r),
        position=weights(max_length, r),
        embed_in_scale=0.01,
        embed_w=weights(d, 2 * r),
        embed_w_scale=0.01,
        embed_bias=rng.integers(-2000, 2000, (2, d)).astype(np.int32),
        blocks=tuple(block(k if i < blocks - 1 else 1) for i in range(blocks)),
        head_w=weights(labels, d),
        head_w_scale=logits_scale / 5,
        head_bias=rng.integers(-2000, 2000, labels).astype(np.int32),
        logits_scale=logits_scale,
        logits_zero=4,
    )


@functools.cache
def made_words(count: int = 3000) -> tuple[str, ...]:
    """Words of two to four syllables, from which a vocabulary of thousands of tokens comes."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    return tuple("".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(count))


@functools.cache
def tiny_tokenizer(vocab_size: int = 300):
    """The tokenizer of all these models, its tokenizer.json as text, and its tables.

    One of more than 300 tokens has those of made-up words as well.
    """
    words = [] if vocab_size == 300 else list(made_words())
    tokenizer = tokenizer_lib.train_tokenizer(SENTENCES * 4 + words * 2, vocab_size)
    assert tokenizer.get_vocab_size() <= vocab_size
    text = tokenizer.to_str()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tokenizer.json"
        path.write_text(text, encoding="utf-8")
        return tokenizer, text, tokenizer_tables.build_tables(str(path))


class TinyModel:
    """An image on disk, with the tokenizer and the NumPy reference that say what it answers."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        threshold: float = 0.0,
        regression: bool = False,
        names: list[str] | None = None,
        vocab_size: int = 300,
        **shape,
    ):
        if names or regression:
            shape["labels"] = len(names or ["score"])
        self.tokenizer, text, tables = tiny_tokenizer(vocab_size)
        self.model = random_model(self.tokenizer, **shape)
        self.reference = reference.Reference(self.model)
        self.labels = names or (["score"] if regression else LABELS[: self.model.labels])
        self.threshold = threshold
        self.image = model_image.build(
            self.model,
            tables,
            self.labels,
            model_image.ImageSource.of("tests/tiny", json.dumps(shape).encode(), text.encode()),
            task="regression" if regression else "classification",
            threshold=threshold,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "tiny.bin"
        self.path.write_bytes(self.image)

    def ids(self, text: str, pair: str | None = None) -> list[int]:
        """The token ids of a text."""
        return tokenizer_lib.encode(self.tokenizer, text, pair, self.model.max_length)

    def logits(self, text: str, pair: str | None = None) -> np.ndarray:
        """The int8 logits that every implementation must give for a text."""
        ids = self.ids(text, pair)
        return self.reference.infer(ids, tokenizer_lib.segment_ids(ids))

    def score(self, text: str, pair: str | None = None) -> float:
        """What a regression answers, as the device rounds it: towards zero, to 1/1000."""
        zero = self.model.logits_zero
        real = (int(self.logits(text, pair)[0]) - zero) * float(self.model.logits_scale)
        return int(real * 1000) / 1000

    def answer(self, text: str, pair: str | None = None) -> tuple[str, float]:
        """Label and confidence in percent."""
        logits = self.logits(text, pair).astype(int)
        table = model_image.confidence_table(self.model.logits_scale).astype(int)
        label = int(np.argmax(logits))
        total = int(table[logits[label] - logits].sum())
        return self.labels[label], (10000 * 65536 + total // 2) // total / 100


def make(*arguments, timeout=900, **variables) -> subprocess.CompletedProcess:
    """Runs the firmware's Makefile; stdout and stderr as text."""
    command = ["make", "--no-print-directory", "-j2", "-C", str(FIRMWARE)]
    command += [f"{name}={value}" for name, value in variables.items()]
    environment = dict(os.environ, PWD=str(ROOT))
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of a `make test` around this
        environment.pop(name, None)
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def built(model, target="mps2-an386"):
    result = make("program", TARGET=target, IMAGE=model.path)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()[-1]
