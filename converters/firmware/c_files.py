"""C sources generated from a model image, and from the kernels' constants."""

import hashlib
import pathlib

from converters.firmware import model_image
from converters.kernels import fixed_point
from embbert_tf.data import files

# The commands that write these files, and the version of what they write.
GENERATOR = "converters/generate_firmware.py"
TFLM_GENERATOR = "converters/generate_tflm.py"
VERSION = 1


def source_strings(image: bytes) -> list[str]:
    """The image's maker, the model's name, the hashes of model.tflite and tokenizer.json."""
    source = model_image.section(image, model_image.Kind.SOURCE)
    return source.decode().split("\0")[:-1]


def c_source(image: bytes, symbol: str = "model_image") -> str:
    """The image as a C constant array, 16-byte aligned, in section .model_image.

    Args:
        image: The image.
        symbol: What the constants are called: `<symbol>_data` and `<symbol>_size`. Models in one
          program need a name each.
    """
    strings = source_strings(image)
    lines = [
        f"// Made by {GENERATOR} {VERSION} ({strings[0]}); do not edit.",
        f"// Model: {strings[1].encode('ascii', 'replace').decode()}",
        f"// SHA-256 of model.tflite: {strings[2]}",
        f"// SHA-256 of tokenizer.json: {strings[3]}",
        f"// SHA-256 of the image: {hashlib.sha256(image).hexdigest()}",
        "// clang-format off",
        "#include <stdint.h>",
        "",
        f"extern const uint32_t {symbol}_size;    // bytes",
        f"extern const uint32_t {symbol}_data[];  // 16-byte aligned",
        "",
        f"const uint32_t {symbol}_size = {len(image)}u;",
        f'__attribute__((aligned(16), section(".model_image"))) const uint32_t '
        f"{symbol}_data[{len(image) // 4}] = {{",
    ]
    return "\n".join([*lines, *words(image), "};", ""])


def words(image: bytes) -> list[str]:
    """The image as lines of an initializer of uint32_t."""
    return [
        "    "
        + " ".join(
            f"0x{int.from_bytes(image[at : at + 4], 'little'):08x},"
            for at in range(start, min(start + 32, len(image)), 4)
        )
        for start in range(0, len(image), 32)
    ]


def shape_header(image: bytes) -> str:
    """The model's sizes as C macros, for the application's static memory."""
    shape = model_image.shape(image)
    return "\n".join(
        [
            f"// Made by {GENERATOR} {VERSION} for model {source_strings(image)[2]}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {len(shape.blocks)}",
            f"#define MODEL_LABELS {shape.labels}",
            f"#define MODEL_MAX_LENGTH {shape.max_length}",
            f"#define MODEL_HIDDEN {shape.hidden}",
            f"#define MODEL_IS_ENCODER {int(shape.encoder)}",
            "// X(layer, expansion, rows of conv) for every layer.",
            "#define MODEL_BLOCK_SHAPES(X) "
            + " ".join(f"X({i}, {e}, {k})" for i, (e, k) in enumerate(shape.blocks)),
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )


def write_if_changed(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file whole, and leaves it alone (its time too) when the content is the same.

    Raises:
        FileError: It cannot be written.
    """
    if not path.is_file() or files.read_bytes(path) != content:
        files.write_bytes(path, content)


def write_image(image: bytes, folder: files.PathLike) -> None:
    """Writes a model image as file and as C, and its sizes as a header.

    Each of `model_image.bin`, `model_image.c` and `model_shape.h` changes only when its content
    does.

    Args:
        image: The image.
        folder: Where to; made when missing.

    Raises:
        FileError: A file cannot be written.
    """
    contents = {
        "model_image.bin": image,
        "model_image.c": c_source(image).encode(),
        "model_shape.h": shape_header(image).encode(),
    }
    write_all(contents, folder)


def write_all(contents: dict[str, bytes], folder: files.PathLike) -> None:
    """Writes files by name into a folder, which is made when missing; raises FileError."""
    target = files.make_folder(folder)
    for name, content in contents.items():
        write_if_changed(target / name, content)


def c_tables() -> str:
    """The constant tables as a C source file."""
    parts = [
        f"// Made by {GENERATOR} --kernel_tables; do not edit.",
        "// A test holds this file against converters/kernels/fixed_point.py.",
        "// clang-format off",
        '#include "embbert_internal.h"',
        "",
    ]
    for comment, name, table in (
        ("32767 * 2^(-i/256)", "embbert_exp2_table", fixed_point.EXP2_TABLE),
        ("2^16 * sqrt(2^30 / ((i + 32.5) * 2^25))", "embbert_rsqrt_table", fixed_point.RSQRT_TABLE),
    ):
        parts += [f"// {comment}", f"const uint16_t {name}[{len(table)}] = {{"]
        for start in range(0, len(table), 12):
            parts.append("    " + " ".join(f"{v}," for v in table[start : start + 12]))
        parts += ["};", ""]
    return "\n".join(parts)
