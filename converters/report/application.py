"""What an application needs to run a `.tflite` on TFLM: resolver, variables, arena, a `main.cc`."""

import dataclasses
import re
from collections.abc import Sequence

from converters.kernels import selective_scan
from converters.tflite import graph as graph_lib
from converters.tflm import arena_model, memory_planner, operators, timeline

EMBBERT_OPERATORS = ("EMBBERT_EMBED", "EMBBERT_BLOCK", "EMBBERT_HEAD")
_ALIGNMENT = memory_planner.ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a file's operators need.

    Attributes:
        methods: The resolver's methods, sorted.
        missing: Builtin operators that TFLM lacks.
        embbert: Whether operators of this project are among them.
        unknown: Names of other custom operators that TFLM lacks.
        int8: Operator -> TFLM's variant for int8 alone, where the file uses no other type.
        variables: Resource variables.
        scan: Whether MAMBA's selective scan, which is this project's too, is among them.
    """

    methods: tuple[str, ...]
    missing: tuple[str, ...]
    embbert: bool
    unknown: tuple[str, ...]
    int8: dict[str, str]
    variables: int
    scan: bool = False

    @property
    def registered(self) -> int:
        """Operators in the resolver."""
        own = len(EMBBERT_OPERATORS) if self.embbert else 0
        return len(self.methods) + own + self.scan + len(self.unknown)


def _method(op: graph_lib.Op) -> str | None:
    if op.kind == "CUSTOM":
        return operators.CUSTOM.get(op.custom_code)
    return operators.BUILTIN.get(op.kind)


def _int8(ops: Sequence[graph_lib.Op]) -> dict[str, str]:
    """Kinds all of whose operators have operands of int8 alone (and biases)."""
    kinds: dict[str, bool] = {}
    for op in ops:
        used = [t.type_name for t in [*op.inputs, *op.outputs] if t is not None]
        plain = used[:1] == ["INT8"] and set(used) <= {"INT8", "INT32"}
        kinds[op.kind] = kinds.get(op.kind, True) and plain
    return {
        kind: operators.INT8[kind]
        for kind, plain in sorted(kinds.items())
        if plain and kind in operators.INT8
    }


def needs(graphs: list[graph_lib.Graph]) -> Needs:
    """Returns what the operators of a file need."""
    ops = [op for graph in graphs for op in graph.ops]
    known = {method for op in ops if (method := _method(op))}
    custom = {op.custom_code for op in ops if op.kind == "CUSTOM"}
    missing = {op.kind for op in ops if op.kind != "CUSTOM" and not _method(op)}
    unknown = custom - set(operators.CUSTOM) - {*EMBBERT_OPERATORS, selective_scan.OPERATOR}
    return Needs(
        tuple(sorted(known)),
        tuple(sorted(missing)),
        bool(custom & set(EMBBERT_OPERATORS)),
        tuple(sorted(unknown)),
        _int8(ops),
        len(arena_model.resource_variables(graphs).names),
        selective_scan.OPERATOR in custom,
    )


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name) or "NAMELESS"


def _literal(name: str) -> str:
    """A C++ string literal of any name."""
    return (
        '"'
        + "".join(
            c if c.isascii() and c.isprintable() and c not in '"\\?' else f"\\{ord(c) & 0xFF:03o}"
            for c in name
        )
        + '"'
    )


def resolver_code(need: Needs) -> str:
    """Returns C++ that registers exactly the operators that a file needs."""
    lines = ['#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"']
    if need.embbert:
        lines.append('#include "embbert_ops.h"  // tflm_app/tflm/embbert_ops.cc is compiled along')
    if need.scan:
        lines.append('#include "embbert_scan_op.h"  // tflm_app/tflm/embbert_scan_op.cc as well')
    for name in need.unknown:
        # A name from the file must not leave the comment that it is written in.
        lines.append(
            f"// The operator {_comment(name)} is for the application to bring.\n"
            f"const TFLMRegistration* Register_{_identifier(name)}();"
        )
    lines += [
        "",
        f"using OpResolver = tflite::MicroMutableOpResolver<{max(need.registered, 1)}>;",
        "",
        "TfLiteStatus RegisterOps(OpResolver& resolver) {",
    ]
    variants = {operators.BUILTIN[kind]: variant for kind, variant in need.int8.items()}
    for method in need.methods:
        variant = f"tflite::{variants[method]}()" if method in variants else ""
        lines.append(f"  TF_LITE_ENSURE_STATUS(resolver.{method}({variant}));")
    if need.embbert:
        lines.append("  TF_LITE_ENSURE_STATUS(embbert::AddOperators(resolver));")
    if need.scan:
        lines.append(
            f'  TF_LITE_ENSURE_STATUS(resolver.AddCustom("{selective_scan.OPERATOR}", '
            "embbert::Register_SELECTIVE_SCAN()));"
        )
    for name in need.unknown:
        lines.append(
            f"  TF_LITE_ENSURE_STATUS(resolver.AddCustom({_literal(name)}, "
            f"Register_{_identifier(name)}()));"
        )
    lines += [f"  // TFLM has no {name}." for name in need.missing]
    return "\n".join([*lines, "  (void)resolver;", "  return kTfLiteOk;", "}"])


def _comment(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_ .:-]", "?", timeline.printable(name)) or "without a name"


_HEADERS = {
    "ADD": "add",
    "BATCH_MATMUL": "batch_matmul",
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise_conv",
    "FULLY_CONNECTED": "fully_connected",
    "MAXIMUM": "maximum_minimum",
    "MINIMUM": "maximum_minimum",
    "MUL": "mul",
    "PAD": "pad",
    "SOFTMAX": "softmax",
    "TRANSPOSE": "transpose",
}


def _interpreter(need: Needs) -> list[str]:
    """Lines that make the interpreter, with resource variables where there are some."""
    if not need.variables:
        return [
            "  static tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));"
        ]
    return [
        "  // The variables' bytes lie in the same arena.",
        "  tflite::MicroAllocator* allocator ="
        " tflite::MicroAllocator::Create(arena, sizeof(arena));",
        "  tflite::MicroResourceVariables* variables =",
        f"      tflite::MicroResourceVariables::Create(allocator, {need.variables});",
        "  static tflite::MicroInterpreter interpreter(model, resolver, allocator, variables);",
    ]


def main_code(need: Needs, arena_bytes: int, name: str) -> str:
    """Returns a whole `main.cc` that loads the model and runs it once.

    Args:
        need: From `needs`.
        arena_bytes: Size of the arena.
        name: Of the file, for a comment.
    """
    headers = {f"kernels/{_HEADERS[kind]}.h" for kind in need.int8}
    headers |= {"micro_interpreter.h"}
    if need.variables:
        headers |= {"micro_allocator.h", "micro_resource_variable.h"}
    resolver = resolver_code(need).split("\n\n", 1)
    lines = [
        f"// Runs {_comment(name)} once. Made by tflm_report.",
        "#include <cstddef>",
        "#include <cstdint>",
        "",
        resolver[0],
        *(f'#include "tensorflow/lite/micro/{header}"' for header in sorted(headers)),
        '#include "tensorflow/lite/schema/schema_generated.h"',
        "",
        "// In a file of its own: alignas(16) extern const unsigned char model_tflite[] = {",
        "// what `xxd -i < FILE` prints };",
        "extern const unsigned char model_tflite[];",
        "",
        f"alignas({_ALIGNMENT}) static uint8_t arena[{arena_bytes}];",
        "",
        resolver[1],
        "",
        "int main() {",
        "  const tflite::Model* model = tflite::GetModel(model_tflite);",
        "  static OpResolver resolver;",
        "  if (RegisterOps(resolver) != kTfLiteOk) return 1;",
        *_interpreter(need),
        "  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;",
        "  for (size_t i = 0; i < interpreter.inputs_size(); i++) {",
        "    TfLiteTensor* input = interpreter.input(i);",
        "    for (size_t j = 0; j < input->bytes; j++) input->data.uint8[j] = 0;  // your values",
        "  }",
        "  if (interpreter.Invoke() != kTfLiteOk) return 1;",
        "  return 0;  // interpreter.output(0)->data holds the answer",
        "}",
    ]
    return "\n".join(lines) + "\n"


def advice(need: Needs, kernels_cmsis: bool = True) -> list[str]:
    """Returns what else the application has to see to, a sentence each."""
    result = []
    if need.variables:
        result.append(
            f"It has {need.variables} resource variables: the interpreter needs a "
            "MicroResourceVariables, made with the allocator that it gets too, and "
            "interpreter.Reset() starts the stream anew."
        )
    if need.embbert:
        result.append(
            "EMBBERT_EMBED, EMBBERT_BLOCK and EMBBERT_HEAD are operators of this project: compile "
            "tflm_app/tflm/embbert_ops.cc and the C files of tflm_app/embbert/src/kernels along, "
            "with tflm_app/tflm and tflm_app/embbert/include on the path of includes."
        )
    if need.scan:
        result.append(
            f"{selective_scan.OPERATOR} is an operator of this project: compile embbert_scan_op.cc "
            "and embbert_scan.c of tflm_app/tflm along, with tflm_app/tflm, "
            "tflm_app/embbert/include and tflm_app/embbert/src on the path of includes."
        )
    for name in need.unknown:
        result.append(
            f"The operator {_comment(name)} is in neither TFLM nor this project: the application "
            f"has to bring Register_{_identifier(name)}()."
        )
    if need.int8 and kernels_cmsis:
        result.append(
            f"{', '.join(need.int8)}: all of them int8, so the variants for int8 alone are "
            "registered. They leave the other types out of the flash only where the application "
            "is compiled with -DCMSIS_NN, as a CMSIS-NN build of TFLM is; without it TFLM's "
            "headers make them the variants for all types."
        )
    result.append(
        f"Arena and model lie at multiples of {_ALIGNMENT} bytes (alignas({_ALIGNMENT})): an arena "
        "that does not loses up to 15 bytes, and kernels read weights by the word."
    )
    return result
