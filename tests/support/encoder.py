"""A small random encoder for the firmware's tests, and what the NumPy twin says of it."""

import json

from converters.firmware import model_image
from converters.kernels import labels as labels_lib
from converters.kernels import reference
from embbert_tf.data import tokenizer as tokenizer_lib
from tests.support.firmware_model import random_model, tiny_tokenizer


class Encoder:
    """An image of the task encoder on disk, with what the reference says."""

    def __init__(self, folder, width=33, threshold=0.5):
        self.tokenizer, _, tables = tiny_tokenizer()
        self.model = random_model(self.tokenizer, labels=width)
        self.reference = reference.Reference(self.model)
        source = model_image.ImageSource.of("tests/encoder", json.dumps(width).encode(), b"")
        self.image = model_image.build(
            self.model, tables, [], source, task="encoder", threshold=threshold
        )
        self.path = folder / f"encoder{width}.bin"
        self.path.write_bytes(self.image)
        crc = int.from_bytes(self.image[12:16], "little")
        self.labels = labels_lib.Labels(width, crc, round(threshold * 10000))

    def row(self, text):
        ids = tokenizer_lib.encode(self.tokenizer, text, None, self.model.max_length)
        return self.reference.infer(ids).astype(int) - self.model.logits_zero

    def said(self, text):
        answer = self.labels.answer(self.row(text))
        unsure = "" if answer.sure else "unsure, perhaps "
        return f"{unsure}{answer.label} {answer.confidence / 100:.2f} %"
