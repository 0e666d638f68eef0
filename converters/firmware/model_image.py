"""The model image: one block of bytes with everything a device needs of one model.

Layout, mirrored by embbert_model_image.h in tflm_app/embbert/include; numbers are little-endian and
32 bits wide:

| offset | what |
| --- | --- |
| 0 | magic "EBMI" |
| 4 | version of the layout |
| 8 | length of the whole image |
| 12 | CRC-32 (zlib's) of the whole image but these four bytes |
| 16 | number of sections, then three zeros |
| 32 | section table, 16 bytes an entry: kind, index, offset, size |
| ... | the sections in the table's order, each at the next multiple of 16, gaps and tail zero |
"""

import dataclasses
import enum
import hashlib
import struct
import zlib
from collections.abc import Iterable

import numpy as np

from converters.kernels import params as params_lib
from converters.kernels.int8_model import Int8Model
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.storage import run_folder

MAGIC = b"EBMI"
VERSION = 1
GENERATOR = "converters/firmware/model_image.py"
HEADER_BYTES = 32
ENTRY_BYTES = 16
ALIGNMENT = 16

# Confidences and thresholds are counted in these on the device.
CONFIDENCE_ONE = 10000
_ENCODER = run_folder.TASKS.index("encoder")
_MOST_NUMBERS = 1024  # of an encoder's row


class ModelImageError(errors.EmbBertError):
    """The parts of a model do not make an image; the message says which and why."""


class Kind(enum.IntEnum):
    """Kinds of section: embbert_section_t in tflm_app/embbert/src/embbert_image.h."""

    CONFIG = 1
    SOURCE = 2
    LABELS = 3
    CONFIDENCE = 4
    TOKENIZER = 5
    EMBED_OPTIONS = 16
    EMBED_TOKEN = 17
    EMBED_POSITION = 18
    EMBED_WEIGHT = 19
    EMBED_BIAS = 20
    BLOCK_OPTIONS = 32
    BLOCK_WQ = 33
    BLOCK_BQ = 34
    BLOCK_WV = 35
    BLOCK_CONV = 36
    BLOCK_CONV_BIAS = 37
    BLOCK_WZ = 38
    BLOCK_BZ = 39
    HEAD_OPTIONS = 48
    HEAD_WEIGHT = 49
    HEAD_BIAS = 50
    # Of converters/firmware/tflm_files.py, in place of all from EMBED_OPTIONS on.
    TFLITE = 64
    TFLM_SHAPE = 65


@dataclasses.dataclass(frozen=True)
class Section:
    """One entry of the table: kind, index (the block's number, else 0) and the bytes."""

    kind: Kind
    index: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """What the image says of where it came from.

    Attributes:
        name: The model's name, shown by the firmware.
        model_sha256: Of model.tflite, hexadecimal.
        tokenizer_sha256: Of tokenizer.json, hexadecimal.
    """

    name: str
    model_sha256: str
    tokenizer_sha256: str

    @staticmethod
    def of(name: str, model: bytes, tokenizer: bytes) -> "ImageSource":
        """The source for the bytes of model.tflite and tokenizer.json."""
        return ImageSource(
            name, hashlib.sha256(model).hexdigest(), hashlib.sha256(tokenizer).hexdigest()
        )


def pack(sections: list[Section]) -> bytes:
    """Lays sections out as an image and seals it with the checksum."""
    table_end = HEADER_BYTES + ENTRY_BYTES * len(sections)
    table, body = b"", b""
    for section in sections:
        body += bytes(-(table_end + len(body)) % ALIGNMENT)
        table += struct.pack(
            "<4I", section.kind, section.index, table_end + len(body), len(section.data)
        )
        body += section.data
    body += bytes(-(table_end + len(body)) % ALIGNMENT)
    length = table_end + len(body)
    before = struct.pack("<4s2I", MAGIC, VERSION, length)
    after = struct.pack("<4I", len(sections), 0, 0, 0) + table + body
    return before + struct.pack("<I", zlib.crc32(after, zlib.crc32(before))) + after


def unpack(image: bytes) -> list[Section]:
    """Reads an image back.

    Raises:
        ModelImageError: it is cut short, damaged or no image.
    """
    if len(image) < HEADER_BYTES or image[:4] != MAGIC:
        raise ModelImageError("not a model image: the magic EBMI is missing")
    version, length, crc, count = struct.unpack_from("<4I", image, 4)
    if version != VERSION:
        raise ModelImageError(f"layout version {version}; this program reads {VERSION}")
    if not HEADER_BYTES <= length <= len(image):
        raise ModelImageError(f"{len(image)} bytes where the header says {length}")
    if zlib.crc32(image[16:length], zlib.crc32(image[:12])) != crc:
        raise ModelImageError("damaged: the checksum differs")
    if HEADER_BYTES + ENTRY_BYTES * count > length:
        raise ModelImageError(f"{count} sections, for which it is too short")
    sections = []
    for i in range(count):
        kind, index, offset, size = struct.unpack_from("<4I", image, HEADER_BYTES + ENTRY_BYTES * i)
        if kind not in set(Kind):
            raise ModelImageError(
                f"section {i} is of kind {kind}, which this program does not know"
            )
        sections.append(Section(Kind(kind), index, image[offset : offset + size]))
    return sections


def read(path: files.PathLike) -> bytes:
    """Reads the file of an image.

    Raises:
        FileError: It cannot be read.
        ModelImageError: It is damaged, or no image; the message names the file.
    """
    image = files.read_bytes(path)
    try:
        shape(image)
    except ModelImageError as error:
        raise ModelImageError(f"{path}: {error}") from error
    return image


def section(image: bytes, kind: Kind, index: int = 0) -> bytes:
    """The bytes of one section.

    Raises:
        ModelImageError: the image is damaged, or lacks it.
    """
    for candidate in unpack(image):
        if (candidate.kind, candidate.index) == (kind, index):
            return candidate.data
    raise ModelImageError(f"section {kind.name} {index} is missing")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the model in an image: logits, S, D, and of every layer E and rows of `conv`.

    `encoder` says that its labels are learnt on the device.
    """

    labels: int
    max_length: int
    hidden: int
    blocks: tuple[tuple[int, int], ...]
    encoder: bool = False


def shape(image: bytes) -> Shape:
    """Reads the sizes of the model in an image.

    Raises:
        ModelImageError: the image is damaged, or a section is missing.
    """
    parts = {(part.kind, part.index): part.data for part in unpack(image)}
    try:
        task, _, blocks, labels, *_ = struct.unpack("<8i", parts[Kind.CONFIG, 0])
        # Options blobs: magic, length, then the fields of EmbedParams and BlockParams.
        _, max_length, _, hidden = struct.unpack_from("<4i", parts[Kind.EMBED_OPTIONS, 0], 8)
        layers = tuple(
            struct.unpack_from("<2i", parts[Kind.BLOCK_OPTIONS, index], 12)
            for index in range(blocks)
        )
    except (KeyError, struct.error, ValueError) as error:
        raise ModelImageError(f"a section is missing or too short ({error!r})") from error
    return Shape(labels, max_length, hidden, layers, task == _ENCODER)


def confidence_table(logits_scale: float) -> np.ndarray:
    """65536 * exp(-d * logits_scale) for the differences d = 0..255 of two int8 logits, uint32."""
    return np.round(65536 * np.exp(-np.arange(256) * float(logits_scale))).astype("<u4")


def build(
    model: Int8Model,
    tokenizer_blob: bytes,
    labels: list[str],
    source: ImageSource,
    *,
    task: str = "classification",
    threshold: float = 0.0,
) -> bytes:
    """Makes the image of a model.

    Args:
        model: The int8 model of a `.tflite`.
        tokenizer_blob: What `converters.firmware.tokenizer_tables` made of its tokenizer.json.
        labels: Names of the logits, in their order.
        source: Where the model came from.
        task: One of `embbert_tf.storage.run_folder.TASKS`: of a regression the one logit is a
            value, of an encoder the logits are a row, and `labels` is empty.
        threshold: Confidence (0..1) below which the firmware answers "unsure".

    Returns:
        The image, a multiple of 16 bytes long.

    Raises:
        ModelImageError: labels or threshold do not fit the model.
        KernelParamsError: the kernels cannot represent the model.
    """
    params = params_lib.model_params(model)
    sections = common_sections(
        Outputs.of(model), tokenizer_blob, labels, source, task=task, threshold=threshold
    )
    sections += _part("EMBED", 0, params.embed)
    for index, block in enumerate(params.blocks):
        sections += _part("BLOCK", index, block)
    sections += _part("HEAD", 0, params.head)
    return pack(sections)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What an image says of a model whatever computes it.

    Attributes:
        labels: Logits, L.
        pair: Whether it reads pairs of texts.
        blocks: Layers.
        logits_scale: Scale of the int8 logits.
        logits_zero: Their zero point.
    """

    labels: int
    pair: bool
    blocks: int
    logits_scale: float
    logits_zero: int

    @classmethod
    def of(cls, model: Int8Model) -> "Outputs":
        """Returns those of an EmbBERT."""
        blocks = len(model.blocks)
        return cls(model.labels, model.pair, blocks, model.logits_scale, model.logits_zero)


def common_sections(
    model: Outputs,
    tokenizer_blob: bytes,
    labels: list[str],
    source: ImageSource,
    *,
    task: str,
    threshold: float,
) -> list[Section]:
    """Returns all of an image but what computes the model; arguments and errors as of `build`."""
    _check(model, labels, task, threshold)
    strings = (
        f"{GENERATOR} {VERSION}",
        source.name,
        source.model_sha256,
        source.tokenizer_sha256,
    )
    return [
        Section(Kind.CONFIG, 0, _config(model, task, threshold)),
        Section(Kind.SOURCE, 0, _strings(strings)),
        Section(Kind.LABELS, 0, _strings(labels)),
        Section(Kind.CONFIDENCE, 0, confidence_table(model.logits_scale).tobytes()),
        Section(Kind.TOKENIZER, 0, tokenizer_blob),
    ]


def _check(model: Outputs, labels: list[str], task: str, threshold: float) -> None:
    if task == "encoder":
        if labels or model.labels > _MOST_NUMBERS:
            raise ModelImageError(
                f"an encoder has no labels of its own, this model {len(labels)}, and at most "
                f"{_MOST_NUMBERS} numbers a row, this model {model.labels}"
            )
    elif len(labels) != model.labels:
        raise ModelImageError(f"{len(labels)} labels for {model.labels} logits")
    if any(not label or "\0" in label for label in labels):
        raise ModelImageError("a label is empty or holds a zero byte")
    if task == "regression" and model.labels != 1:
        raise ModelImageError(f"a regression has one logit, this model {model.labels}")
    if not 0 <= threshold <= 1:
        raise ModelImageError(f"confidence threshold {threshold:g} is not within 0..1")


def _config(model: Outputs, task: str, threshold: float) -> bytes:
    regression = task == "regression"
    multiplier, shift = score_scale(float(model.logits_scale)) if regression else (0, 0)
    return struct.pack(
        "<8i",
        run_folder.TASKS.index(task),
        int(model.pair),
        model.blocks,
        model.labels,
        round(threshold * CONFIDENCE_ONE),
        int(model.logits_zero),
        multiplier,
        shift,
    )


def score_scale(logits_scale: float) -> tuple[int, int]:
    """Returns (multiplier, shift) with 1000 * logits_scale = multiplier * 2^shift / 65536."""
    multiplier = logits_scale * 1000 * 65536
    shift = max(0, int(np.frexp(multiplier)[1]) - 31)
    # A score in 1/1000 is an int64: 8 bits of logit, 31 of multiplier, and the shift.
    if shift > 24:
        raise ModelImageError(f"scale {logits_scale:g} of the logits is too large")
    return min(round(multiplier / 2**shift), 2**31 - 1), shift


def _part(
    name: str,
    index: int,
    params: params_lib.EmbedParams | params_lib.BlockParams | params_lib.HeadParams,
) -> list[Section]:
    """The options blob and the tensors of embedder, block or head."""
    sections = [Section(Kind[f"{name}_OPTIONS"], index, params.options())]
    for tensor, array in params.tensors().items():
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        sections.append(Section(Kind[f"{name}_{tensor.upper()}"], index, little_endian.tobytes()))
    return sections


def _strings(strings: Iterable[str]) -> bytes:
    return b"".join(text.encode() + b"\0" for text in strings)
