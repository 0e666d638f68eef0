"""Model folders of random weights for every kind of task, and rows for them."""

import csv
import hashlib
import pathlib
import random

from converters.evaluation.model import Model, load_model
from embbert_tf.model.config import EmbBertConfig
from tests.support import portable_models
from tests.support.firmware_model import SENTENCES, tiny_tokenizer

LENGTH = 32
# What would run, or be taken for a part of the page, if it were not escaped.
HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "{{ 7 * 7 }} {% raw %}",
    "\" onfocus='document.title=1' autofocus x=\"",
    "&lt;b&gt; &amp; <b>bold</b>",
    "]]> --> <!--",
    "\u202eright to left",
    "🙂 größer 日本語",
]
# By name: labels (none: a score) and whether texts come in pairs.
KINDS = {
    "a label of two": (["no", "yes"], False),
    "a label": (HOSTILE, False),
    "a label of 500": ([f"label {n} of 500" for n in range(500)], False),
    "a pair": (["different", "same", "contrary"], True),
    "a score": ([], False),
    "a pair's score": ([], True),
}


def make(folder: pathlib.Path, kind: str) -> Model:
    """Writes a model folder of a kind; the model is untrained, and its answers as good as drawn.

    Args:
        folder: Where to.
        kind: One of `KINDS`, or "an encoder".
    """
    encoder = kind == "an encoder"
    labels, pair = ([], False) if encoder else KINDS[kind]
    task = "encoder" if encoder else "classification" if labels else "regression"
    tokenizer, text, _ = tiny_tokenizer()
    config = EmbBertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_length=LENGTH,
        hidden_size=16,
        reduced_size=4,
        num_layers=2,
        kernel_size=4,
    )
    folded = portable_models.random_folded(config, 12 if encoder else max(len(labels), 1))
    built = portable_models.build(folded, LENGTH, pair=pair)
    tflite = portable_models.to_bytes(built)
    logits = built.graph.outputs[0]
    settings = {
        "generator": "tests/support/page_models.py",
        "task": task,
        "pair": pair,
        "max_length": LENGTH,
        "output": {"scale": float(logits.scale), "zero_point": int(logits.zero_point)},
        "confidence_threshold": 1 / len(labels) + 0.05 if labels else 0.0,
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "metrics": {
            "fp32": {"history": [{"loss": 1 / n, "valid": 1 - 1 / n} for n in range(1, 6)]},
            "qat": {"history": [{"loss": 0.1, "valid": 0.9}]},
        },
        "versions": {"<b>library</b>": "1"},
    }
    Model(None, tflite, tokenizer, labels, settings, text).save(folder)
    return load_model(folder)


def rows(kind: str, count: int = 40) -> list[tuple[str, ...]]:
    """Labelled rows, hostile and long texts among them."""
    labels, pair = KINDS[kind]
    rng = random.Random(0)
    texts = [*HOSTILE, *SENTENCES, "up " * 10_000, "word"]
    result = []
    for n in range(count):
        row = [texts[n % len(texts)].strip()]
        row += [rng.choice(texts).strip()] if pair else []
        result.append((*row, rng.choice(labels) if labels else f"{rng.uniform(-3, 9):.2f}"))
    return result


def write_rows(path: pathlib.Path, kind: str, count: int = 40) -> pathlib.Path:
    """Writes the rows as CSV."""
    header = ("text", "text_pair", "label") if KINDS[kind][1] else ("text", "label")
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows(kind, count)])
    return path
