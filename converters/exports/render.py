"""Files from templates, and what these say of a model."""

import hashlib
import json
import pathlib
import struct
from typing import Any

import jinja2

from converters.exports import measure, tflm
from converters.exports.options import ExportOptions
from converters.firmware import c_files, model_image
from embbert_tf import errors

GENERATOR = "converters/export.py"
# Of what is exported; a test holds it against pyproject.toml.
VERSION = "0.1.0"
# A token of most text has four letters; a line of an example may have twice as many.
_LINE_BYTES_A_TOKEN = 8
_LEAST_LINE_BYTES = 256
_SAY = 'echo "play some quiet jazz"'

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


def _quoted(text: str) -> str:
    """Returns text that somebody else has written, such as a label, as one harmless line."""
    string = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in string)


_TEMPLATES.filters["quoted"] = _quoted
_TEMPLATES.filters["grouped"] = lambda number: f"{number:,}"


def render(template: str, values: dict[str, Any]) -> bytes:
    """Returns the file that a template makes of the values; it may name nothing else."""
    return _TEMPLATES.get_template(template).render(values).encode()


def values(
    image: bytes, options: ExportOptions, fused: tflm.FusedModel | None = None
) -> dict[str, Any]:
    """Returns what the templates say of a model and of how it is exported.

    Args:
        image: The model image.
        options: Those of the export.
        fused: The model for TensorFlow Lite Micro, if that shall run it.

    Raises:
        OptionError: The graph of TensorFlow Lite Micro cannot be shortened.
    """
    shape = model_image.shape(image)
    task, pair, *_ = struct.unpack("<8i", model_image.section(image, model_image.Kind.CONFIG))
    labels = model_image.section(image, model_image.Kind.LABELS).decode().split("\0")[:-1]
    _, source_name, *hashes = c_files.source_strings(image)
    max_tokens = min(options.max_tokens or shape.max_length, shape.max_length)
    if fused is not None and max_tokens < shape.max_length:
        raise errors.OptionError(
            f"max_tokens does not shorten a graph of TensorFlow Lite Micro; convert the run with "
            f"--max_length={max_tokens}"
        )
    runs = image if fused is None else fused.image
    return {
        "name": options.name,
        "NAME": options.name.upper(),
        "ecosystem_name": options.ecosystem,
        "runtime": options.runtime,
        "generator": GENERATOR,
        "version": VERSION,
        "source": model_image.ImageSource(source_name, *hashes),
        "score": task == 1,
        "pair": pair == 1,
        "labels": labels,
        "encoder": shape.encoder,
        "logits": shape.labels,
        "max_tokens": max_tokens,
        "shortened": max_tokens < shape.max_length,
        "line_bytes": max(_LINE_BYTES_A_TOKEN * max_tokens, _LEAST_LINE_BYTES),
        # What a shell pipes into the example.
        "say": 'printf "%s\\n" "the lamp is on" "a lamp is lit"' if pair else _SAY,
        "blocks": len(shape.blocks),
        "hidden": shape.hidden,
        "scratch": _scratch(shape, f"{options.name.upper()}_MAX_TOKENS"),
        "arenas": {} if fused is None else fused.arenas,
        "alignment": 8 if fused is None else 16,
        "image_bytes": len(runs),
        "image_sha256": hashlib.sha256(runs).hexdigest(),
        "image_words": "\n".join(c_files.words(runs)),
        "processor": measure.PROCESSOR,
    }


def _scratch(shape: model_image.Shape, tokens: str) -> str:
    """Returns the C expression of the largest scratch of any layer.

    It grows with expansion and with taps; only layers that none exceeds in both count.
    """
    layers = set(shape.blocks)
    largest = sorted(
        (e, k)
        for e, k in layers
        if not any(e <= other[0] and k <= other[1] for other in layers - {(e, k)})
    )
    parts = [f"EMBBERT_BLOCK_SCRATCH_BYTES({shape.hidden}, {e}, {k}, {tokens})" for e, k in largest]
    expression = parts.pop()
    for part in parts:
        expression = f"EMBBERT_LARGER({part}, {expression})"
    return expression
