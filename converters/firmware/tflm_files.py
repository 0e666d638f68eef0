"""Files of the firmware on TFLM: model image with the graph, resolver, sizes."""

import dataclasses
import hashlib
import pathlib
import struct

import numpy as np

from converters.firmware import c_files, from_model_folder, model_image
from converters.firmware.model_image import Kind, Section
from converters.kernels import fixed_point, fused_graph, recognize, selective_scan
from converters.tflite import graph as graph_lib
from converters.tflite import model_folder, reader
from converters.tflm import operators as operators_lib
from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.data import files

PORTABLE, FUSED = "portable", "fused"
# Custom operator to the header that declares its registration, and what that is called by.
_CUSTOM = {
    fused_graph.EMBED: ("embbert_ops.h", "EMBED"),
    fused_graph.BLOCK: ("embbert_ops.h", "BLOCK"),
    fused_graph.HEAD: ("embbert_ops.h", "HEAD"),
    selective_scan.OPERATOR: ("embbert_scan_op.h", "SELECTIVE_SCAN"),
}
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
    headers = {_CUSTOM[name][0] for name, _ in kinds if name in _CUSTOM}
    lines += [f'#include "{header}"' for header in sorted(headers)]
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
            call = f'AddCustom("{name}", Register_{_CUSTOM[name][1]}())'
        elif int8:
            call = f"{operators_lib.BUILTIN[name]}(tflite::{operators_lib.INT8[name]}())"
        else:
            call = f"{operators_lib.BUILTIN[name]}()"
        lines.append(f"  TF_LITE_ENSURE_STATUS(resolver.{call});")
    lines += ["  return kTfLiteOk;", "}", "}  // namespace embbert", "#endif", ""]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a model, for the app's static memory and what it prints.

    Attributes:
        vocab_size: V.
        max_length: S.
        reduced: R.
        hidden: D.
        blocks: N.
        labels: L.
        expansion: E.
        taps: K; 0 where the model is no EmbBERT, whose work the benchmark knows.
    """

    vocab_size: int
    max_length: int
    reduced: int
    hidden: int
    blocks: int
    labels: int
    expansion: int = 1
    taps: int = 0


def sizes_of(model: model_folder.ModelFolder) -> Sizes:
    """Returns the sizes of a model: of an EmbBERT's graph, or as `model.json` has them.

    Raises:
        FirmwareError: The graph is no EmbBERT's, nor said to be of a compared model.
    """
    config = model.settings.get("config", {})
    if "kind" not in config:
        with from_model_folder.told(model):
            int8 = recognize.extract(model.tflite)
        first = int8.blocks[0]
        blocks, labels = len(int8.blocks), int8.labels
        return Sizes(
            int8.vocab_size, int8.max_length, int8.r, int8.d, blocks, labels, first.e, first.k
        )
    sizes = any_model.config_of(config)
    return Sizes(
        sizes.vocab_size,
        model.max_length,
        sizes.reduced_size or sizes.hidden_size,
        sizes.hidden_size,
        max(sizes.num_layers, 1),
        max(len(model.labels), 1),
    )


def shape_header(sizes: Sizes, graph: graph_lib.Graph, origin: str, encoder: bool = False) -> str:
    """The C header with the sizes that the app's static memory is made from.

    Args:
        sizes: Of the model.
        graph: The graph that runs.
        origin: What it was made from, for the header's first line.
        encoder: Whether its labels are learnt on the device.
    """
    return "\n".join(
        [
            f"{_MADE_BY} for {origin}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {sizes.blocks}",
            f"#define MODEL_LABELS {sizes.labels}",
            f"#define MODEL_MAX_LENGTH {sizes.max_length}",
            f"#define MODEL_HIDDEN {sizes.hidden}",
            f"#define MODEL_EXPANSION {sizes.expansion}",
            f"#define MODEL_OPERATORS {len(operators(graph))}",
            f"#define MODEL_IS_ENCODER {int(encoder)}",
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )


def tflm_image(
    model: model_folder.ModelFolder, sizes: Sizes, tflite: bytes, name: str | None = None
) -> bytes:
    """Makes the model image that tflm_app/tflm reads, with a `.tflite` in place of weights.

    Args:
        model: The model.
        sizes: Its sizes.
        tflite: The graph to run; the answers have its output's scale and zero point.
        name: As for `from_model_folder.image_of`.

    Raises:
        FirmwareError: The firmware cannot hold the model.
    """
    logits = reader.read(tflite).outputs[0]
    assert logits.scale is not None  # `check` saw to that.
    outputs = model_image.Outputs(
        sizes.labels, model.pair, sizes.blocks, float(logits.scale), int(logits.zero_point)
    )
    shape = (sizes.vocab_size, sizes.max_length, sizes.reduced, sizes.hidden)
    return model_image.pack(
        [
            *from_model_folder.common_sections(model, outputs, name),
            Section(Kind.TFLM_SHAPE, 0, struct.pack("<6i", *shape, sizes.expansion, sizes.taps)),
            Section(Kind.TFLITE, 0, tflite),
        ]
    )


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
    sizes = sizes_of(model)
    if graph == FUSED and "kind" in model.settings.get("config", {}):
        raise TflmError(
            f"graph {FUSED}: the fused operators are EmbBERT's, and {model.path} is another model; "
            f"take the graph {PORTABLE}"
        )
    tflite, read = _graph(model.tflite, graph)
    check(read, sizes.labels, sizes.max_length)
    name = graph if graph in (PORTABLE, FUSED) else pathlib.Path(graph).name
    origin = f"{name} graph, SHA-256 {hashlib.sha256(tflite).hexdigest()}"
    whole = tflm_image(model, sizes, tflite)
    contents = {
        "model_image.bin": whole,
        "model_image.c": c_files.c_source(whole).encode(),
        "model_shape.h": shape_header(sizes, read, origin, model.task == "encoder").encode(),
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
