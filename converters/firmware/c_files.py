"""C sources generated from a model image."""

import hashlib
import os
import pathlib

from converters import generate_firmware
from converters.firmware import model_image
from converters.kernels import params


def _source_strings(image: bytes) -> list[str]:
    """The image's maker, the model's name, the hashes of model.tflite and tokenizer.json."""
    source = model_image.section(image, model_image.Kind.SOURCE)
    return source.decode().split("\0")[:-1]


def c_source(image: bytes) -> str:
    """The image as a C constant array, 16-byte aligned, in section .model_image."""
    strings = _source_strings(image)
    lines = [
        f"// Made by {generate_firmware.GENERATOR} {generate_firmware.VERSION} ({strings[0]}); do not edit.",
        f"// Model: {strings[1].encode('ascii', 'replace').decode()}",
        f"// SHA-256 of model.tflite: {strings[2]}",
        f"// SHA-256 of tokenizer.json: {strings[3]}",
        f"// SHA-256 of the image: {hashlib.sha256(image).hexdigest()}",
        "// clang-format off",
        '#include "model_image_data.h"',
        "",
        f"const uint32_t model_image_size = {len(image)}u;",
        f'__attribute__((aligned(16), section(".model_image"))) const uint32_t '
        f"model_image_data[{len(image) // 4}] = {{",
    ]
    for start in range(0, len(image), 32):
        words = [
            f"0x{int.from_bytes(image[at : at + 4], 'little'):08x},"
            for at in range(start, min(start + 32, len(image)), 4)
        ]
        lines.append("    " + " ".join(words))
    return "\n".join([*lines, "};", ""])


def shape_header(image: bytes) -> str:
    """The model's sizes as C macros, for the application's static memory."""
    shape = model_image.shape(image)
    return "\n".join(
        [
            f"// Made by {generate_firmware.GENERATOR} {generate_firmware.VERSION} for model {_source_strings(image)[2]}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {len(shape.blocks)}",
            f"#define MODEL_LABELS {shape.labels}",
            f"#define MODEL_MAX_LENGTH {shape.max_length}",
            f"#define MODEL_HIDDEN {shape.hidden}",
            "// X(expansion, rows of conv) for every layer.",
            "#define MODEL_BLOCK_SHAPES(X) " + " ".join(f"X({e}, {k})" for e, k in shape.blocks),
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )


def write_if_changed(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file whole, and leaves it alone (its time too) when the content is the same."""
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def c_tables() -> str:
    """The constant tables as a C source file."""
    parts = [
        "// Made by `python -m converters.kernels.params --c_tables=FILE`; do not edit.",
        "// A test holds this file against converters/kernels/params.py.",
        "// clang-format off",
        '#include "embbert_internal.h"',
        "",
    ]
    for comment, name, table in (
        ("32767 * 2^(-i/256)", "embbert_exp2_table", params.EXP2_TABLE),
        ("2^16 * sqrt(2^30 / ((i + 32.5) * 2^25))", "embbert_rsqrt_table", params.RSQRT_TABLE),
    ):
        parts += [f"// {comment}", f"const uint16_t {name}[{len(table)}] = {{"]
        for start in range(0, len(table), 12):
            parts.append("    " + " ".join(f"{v}," for v in table[start : start + 12]))
        parts += ["};", ""]
    return "\n".join(parts)
