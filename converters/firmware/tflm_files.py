"""Files of the firmware on TFLM: model image with the graph, resolver, sizes."""

import hashlib
import pathlib
import struct

import numpy as np

from converters.firmware import c_files, from_model_folder, model_image
from converters.firmware.model_image import Kind, Section
from converters.kernels import fixed_point, fused_graph, int8_model, recognize
from converters.tflite import graph as graph_lib
from converters.tflite import model_folder, reader
from converters.tflm import operators as operators_lib
from embbert_tf import errors
from embbert_tf.data import files

PORTABLE, FUSED = "portable", "fused"
_CUSTOM = {fused_graph.EMBED: "EMBED", fused_graph.BLOCK: "BLOCK", fused_graph.HEAD: "HEAD"}
# Kinds that are registered for all types when any of their operators is not int8 throughout.
_SHAPES_ONLY = {"PAD", "TRANSPOSE"}  # whose second input is an int32 constant
_MADE_BY = f"// Made by {c_files.TFLM_GENERATOR} {c_files.VERSION}"


class TflmError(errors.EmbBertError):
    """A graph that the TFLM app cannot be made of; the message says why."""


def operators(graph: graph_lib.Graph) -> list[tuple[str, bool]]:
    """The kinds of operator in a graph, in order of appearance.

    Args:
        graph: The graph.

    Returns:
        (kind or custom code, whether TFLM's int8 variant serves all its operators).

    Raises:
        TflmError: An operator that the app cannot register.
    """
    int8: dict[str, bool] = {}
    for op in graph.ops:
        name = op.custom_code if op.kind == "CUSTOM" else op.kind
        if name not in (_CUSTOM if op.kind == "CUSTOM" else operators_lib.BUILTIN):
            raise TflmError(
                f"operator {name}: not among those that the TFLM app registers "
                "(converters/tflm/operators.py has the list)"
            )
        tensors = [*op.inputs[:1], *op.outputs]
        if name not in _SHAPES_ONLY:
            tensors += op.inputs[1:2]
        all_int8 = all(t is not None and t.type_name == "INT8" for t in tensors)
        int8[name] = int8.get(name, True) and all_int8
    return [(name, good and name in operators_lib.INT8) for name, good in int8.items()]


def check(graph: graph_lib.Graph, labels: int, max_length: int) -> None:
    """Refuses a graph whose inputs and outputs the app cannot feed and read.

    Args:
        graph: The graph.
        labels: Logits that it must have, L.
        max_length: Tokens that its inputs must take, S.

    Raises:
        TflmError: Says which and why.
    """
    if graph.other_subgraphs:
        raise TflmError(f"{graph.other_subgraphs + 1} subgraphs where the app runs one")
    if not 1 <= len(graph.inputs) <= 2 or len(graph.outputs) != 1:
        raise TflmError(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    for tensor in graph.inputs:
        if tensor.type_name != "INT32" or tensor.shape != (1, max_length):
            raise TflmError(
                f"input '{tensor.name}' is {tensor.type_name} {tensor.shape}, not INT32 "
                f"(1, {max_length})"
            )
    (logits,) = graph.outputs
    if logits.type_name != "INT8" or int(np.prod(logits.shape)) != labels:
        raise TflmError(
            f"output '{logits.name}' is {logits.type_name} {logits.shape}, not INT8 (1, {labels})"
        )
    if logits.scale is None or np.size(logits.scale) != 1:
        raise TflmError(f"output '{logits.name}' is not quantized with one scale")


def resolver_header(graph: graph_lib.Graph, origin: str) -> str:
    """The C++ header that registers the graph's operators.

    Args:
        graph: The graph.
        origin: What it was made from, for the header's first line.
    """
    kinds = operators(graph)
    lines = [
        f"{_MADE_BY} for {origin}; do not edit.",
        "#ifndef EMBBERT_MODEL_RESOLVER_H_",
        "#define EMBBERT_MODEL_RESOLVER_H_",
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
    ]
    if any(name in _CUSTOM for name, _ in kinds):
        lines.append('#include "embbert_ops.h"')
    # micro_mutable_op_resolver.h brings these along where kernels have an int8 variant.
    for header in ("add", "maximum_minimum", "mul", "pad", "softmax", "transpose"):
        lines.append(f'#include "tensorflow/lite/micro/kernels/{header}.h"')
    lines += [
        "namespace embbert {",
        f"using ModelResolver = tflite::MicroMutableOpResolver<{len(kinds)}>;",
        "inline TfLiteStatus AddModelOperators(ModelResolver& resolver) {",
    ]
    for name, int8 in kinds:
        if name in _CUSTOM:
            call = f'AddCustom("{name}", Register_{_CUSTOM[name]}())'
        elif int8:
            call = f"{operators_lib.BUILTIN[name]}(tflite::{operators_lib.INT8[name]}())"
        else:
            call = f"{operators_lib.BUILTIN[name]}()"
        lines.append(f"  TF_LITE_ENSURE_STATUS(resolver.{call});")
    lines += ["  return kTfLiteOk;", "}", "}  // namespace embbert", "#endif", ""]
    return "\n".join(lines)


def shape_header(
    model: int8_model.Int8Model, graph: graph_lib.Graph, origin: str, encoder: bool = False
) -> str:
    """The C header with the sizes that the app's static memory is made from.

    Args:
        model: The int8 model.
        graph: The graph that runs.
        origin: What it was made from, for the header's first line.
        encoder: Whether its labels are learnt on the device.
    """
    return "\n".join(
        [
            f"{_MADE_BY} for {origin}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {len(model.blocks)}",
            f"#define MODEL_LABELS {model.labels}",
            f"#define MODEL_MAX_LENGTH {model.max_length}",
            f"#define MODEL_HIDDEN {model.d}",
            f"#define MODEL_EXPANSION {model.blocks[0].e}",
            f"#define MODEL_OPERATORS {len(operators(graph))}",
            f"#define MODEL_IS_ENCODER {int(encoder)}",
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )


def tflm_image(image: bytes, model: int8_model.Int8Model, tflite: bytes) -> bytes:
    """Puts a `.tflite` into a model image in place of the kernels' weights.

    Args:
        image: The image that `from_model_folder.image_of` made.
        model: The int8 model of the folder, for the sizes.
        tflite: The graph to run; its output's scale and zero point replace those of the model.

    Returns:
        The image that tflm_app/tflm reads.
    """
    logits = reader.read(tflite).outputs[0]
    assert logits.scale is not None  # `check` saw to that.
    scale = float(logits.scale)
    keep = {Kind.CONFIG, Kind.SOURCE, Kind.LABELS, Kind.CONFIDENCE, Kind.TOKENIZER}
    sections = []
    for part in model_image.unpack(image):
        if part.kind not in keep:
            continue
        data = part.data
        if part.kind == Kind.CONFIG:
            config = list(struct.unpack("<8i", data))
            config[5] = int(logits.zero_point)
            if config[0] == 1:
                config[6:] = model_image.score_scale(scale)
            data = struct.pack("<8i", *config)
        elif part.kind == Kind.CONFIDENCE:
            data = model_image.confidence_table(scale).tobytes()
        sections.append(Section(part.kind, part.index, data))
    first = model.blocks[0]
    shape = (model.vocab_size, model.max_length, model.r, model.d, first.e, first.k)
    sections.append(Section(Kind.TFLM_SHAPE, 0, struct.pack("<6i", *shape)))
    sections.append(Section(Kind.TFLITE, 0, tflite))
    return model_image.pack(sections)


def generate(
    model: model_folder.ModelFolder | files.PathLike, graph: str, output: files.PathLike
) -> None:
    """Writes the C and C++ that the TFLM app is built from.

    `model_image.bin` and `model_image.c` hold the graph in place of the kernels' weights;
    `model_shape.h` has the sizes of the app's static memory, `model_resolver.h` the operators that
    the graph uses, int8 variants where TFLM has them; `graph.tflite` is the graph itself. Each file
    changes only when its content does.

    Args:
        model: A model, or its folder.
        graph: "portable", "fused", or the path of another `.tflite`.
        output: Folder for the files; made when missing.

    Raises:
        TflmError: The graph does not suit the app.
        ModelFolderError, FirmwareError: The model does not.
        FileError: A file cannot be read or written.
    """
    if not isinstance(model, model_folder.ModelFolder):
        model = model_folder.load(pathlib.Path(model))
    image = from_model_folder.image_of(model)
    int8 = recognize.extract(model.tflite)
    tflite, read = _graph(model.tflite, graph)
    check(read, int8.labels, int8.max_length)
    name = graph if graph in (PORTABLE, FUSED) else pathlib.Path(graph).name
    origin = f"{name} graph, SHA-256 {hashlib.sha256(tflite).hexdigest()}"
    whole = tflm_image(image, int8, tflite)
    contents = {
        "model_image.bin": whole,
        "model_image.c": c_files.c_source(whole).encode(),
        "model_shape.h": shape_header(
            int8, read, origin, model_image.shape(image).encoder
        ).encode(),
        "model_resolver.h": resolver_header(read, origin).encode(),
        "graph.tflite": tflite,
    }
    c_files.write_all(contents, output)


def _graph(portable: bytes, graph: str) -> tuple[bytes, graph_lib.Graph]:
    """Returns the `.tflite` that shall run, as bytes and read."""
    try:
        if graph == PORTABLE:
            tflite = portable
        elif graph == FUSED:
            tflite = fused_graph.fuse(portable)
        else:
            tflite = files.read_bytes(graph)
        return tflite, reader.read(tflite)
    except (graph_lib.FlatbufferError, fixed_point.KernelParamsError) as error:
        raise TflmError(f"graph {graph}: {error}") from error
