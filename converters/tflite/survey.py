"""What a `.tflite` uses of the schema that TFLM ignores, refuses or takes otherwise.

Feature by feature of `schema.fbs`: what TFLM understands as it is meant passes in silence, the rest
is named, with where it occurs and how to mend it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import graph as graph_lib

REFUSED, WRONG, UNDETERMINED, NOTE = "refused", "wrong", "undetermined", "note"
_ORDER = (REFUSED, WRONG, UNDETERMINED, NOTE)
# Types that TFLM knows no size of.
_NO_SIZE = ("STRING", "VARIANT", "INT2", "UINT4", "FLOAT8_E4M3FN", "FLOAT8_E5M2")
_KNOWN_METADATA = (
    "OfflineMemoryAllocation",
    "min_runtime_version",
    "CONVERSION_METADATA",
    "TFLITE_METADATA",
    "reduced_precision_support",
)
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing about a file.

    Attributes:
        kind: REFUSED (TFLM does not load or run the file), WRONG (it runs and answers something
            else than is meant), UNDETERMINED (what it answers depends on what its memory happens to
            hold) or NOTE.
        text: What and where.
        mend: How to mend it; empty where nothing needs mending.
    """

    kind: str
    text: str
    mend: str = ""


def _named(names: list[str]) -> str:
    """The first few names, and how many more."""
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"


def _count(number: int, what: str) -> str:
    return f"{number} {what}s" if number != 1 else f"one {what}"


class _Survey:
    def __init__(self, data: bytes, graphs: list[graph_lib.Graph]) -> None:
        self.model = schema.Model.GetRootAs(data, 0)
        self.graphs = graphs
        self.subgraphs = [self.model.Subgraphs(i) for i in range(len(graphs))]
        self.called = self._called(0, set())
        running = [graphs[number] for number in self.called]
        self.needed = {id(t) for g in running for op in g.ops for t in op.inputs}
        self.needed |= {id(t) for g in running for t in g.outputs}

    def records(self) -> Iterator[tuple[graph_lib.Tensor, Any]]:
        """Every tensor with its record in the file."""
        for graph, subgraph in zip(self.graphs, self.subgraphs, strict=True):
            for index, tensor in enumerate(graph.tensors):
                yield tensor, subgraph.Tensors(index)

    def operators(self) -> Iterator[tuple[graph_lib.Op, Any, str]]:
        """Every operator with its record and a name for people."""
        for number, (graph, subgraph) in enumerate(zip(self.graphs, self.subgraphs, strict=True)):
            for index, op in enumerate(graph.ops):
                name = op.custom_code or op.kind
                where = f"operator {index} ({name})" + (f" of subgraph {number}" if number else "")
                yield op, subgraph.Operators(index), where

    def tensors_with(self, holds: Any) -> list[str]:
        return [tensor.name for tensor, record in self.records() if holds(tensor, record)]

    def wrong(self, holds: Any, what: str, why: str, mend: str) -> Iterator[Finding]:
        """What makes TFLM take other values than are meant, if anything that runs needs them."""
        found = [tensor for tensor, record in self.records() if holds(tensor, record)]
        if not found:
            return
        needed = any(id(tensor) in self.needed for tensor in found)
        names = f"{_count(len(found), 'tensor')} ({_named([tensor.name for tensor in found])})"
        end = "" if needed else "; nothing that runs needs them"
        text = what.format(names) + why + end
        yield Finding(WRONG if needed else NOTE, text, mend if needed else "")

    # -- where constants lie ----------------------------------------------------------------------

    def constants(self) -> Iterator[Finding]:
        model = self.model

        def behind(tensor: graph_lib.Tensor, record: Any) -> bool:
            buffer = model.Buffers(record.Buffer())
            return not buffer.DataLength() and buffer.Offset() > 1

        yield from self.wrong(
            behind,
            "the data of {} lie behind the flatbuffer (Buffer.offset), where TFLM does not look: ",
            "it reads whatever its arena holds instead",
            "convert again without _experimental_use_buffer_offset, or rewrite the file with "
            "tensorflow.lite.tools.flatbuffer_utils: write_model(read_model(old), new)",
        )
        yield from self.wrong(
            lambda t, r: hasattr(r, "ExternalBuffer") and r.ExternalBuffer(),
            "the data of {} lie in another file (external_buffer), ",
            "which TFLM never reads",
            "export the model with its weights inside",
        )
        yield from self.wrong(
            lambda t, r: r.Sparsity() is not None,
            "sparse weights in {}: ",
            "TFLM takes the packed values for dense ones and reads beyond them",
            "convert again without Optimize.EXPERIMENTAL_SPARSITY",
        )
        names = self.tensors_with(
            lambda t, r: t.data is not None and model.Buffers(r.Buffer()).DataLength() > t.nbytes
            and r.Sparsity() is None and t.dtype is not None
        )  # fmt: skip
        if names:
            yield Finding(
                NOTE,
                f"the buffer of {_count(len(names), 'tensor')} ({_named(names)}) is longer than "
                "the shape needs; TFLM takes its beginning",
            )
        plans = [model.Metadata(i) for i in range(model.MetadataLength())]
        plans = [plan for plan in plans if plan.Name() == b"OfflineMemoryAllocation"]
        if any(not model.Buffers(plan.Buffer()).DataLength() for plan in plans):
            yield Finding(
                REFUSED,
                "the offline plan (metadata OfflineMemoryAllocation) has no bytes inside the "
                "flatbuffer, and TFLM reads it from address 0",
                "drop that metadata, or write its bytes into the flatbuffer",
            )
        if "COMPRESSION_METADATA" in self.graphs[0].metadata:
            yield Finding(
                WRONG,
                "the weights are compressed (metadata COMPRESSION_METADATA); a TFLM that is built "
                "without USE_TFLM_COMPRESSION takes the indices for weights",
                "build TFLM with -DUSE_TFLM_COMPRESSION, whose further memory is not predicted "
                "here, or take the file from before the compression",
            )

    # -- shapes and types -------------------------------------------------------------------------

    def shapes(self) -> Iterator[Finding]:
        def open_ended(tensor: graph_lib.Tensor, record: Any) -> bool:
            signature = record.ShapeSignatureAsNumpy()
            return not isinstance(signature, int) and bool((signature < 0).any())

        inputs = {t.name for t in self.graphs[0].inputs}
        names = [n for n in self.tensors_with(open_ended) if n in inputs]
        if names:
            shapes = {
                t.name: "×".join(map(str, t.shape)) or "scalar" for t in self.graphs[0].inputs
            }
            yield Finding(
                NOTE,
                f"the shape of input {_named(names)} is open (shape_signature has -1); TFLM takes "
                f"the one in the file, {shapes[names[0]]}, and never resizes a tensor",
                "if another size is meant, convert with that batch and length fixed",
            )
        for op, _, where in self.operators():
            empty = [t for t in op.outputs if 0 in t.shape and t.shape != (0,)]
            if empty:
                yield Finding(
                    REFUSED,
                    f"{where} makes a tensor without elements ('{empty[0].name}', "
                    f"{'×'.join(map(str, empty[0].shape))}), which TFLM takes for a dynamic one",
                    "convert with fixed shapes",
                )
                break

    def types(self) -> Iterator[Finding]:
        for name in sorted({t.type_name for t, _ in self.records()}):
            users = self.tensors_with(lambda t, r, name=name: t.type_name == name)
            if name in _NO_SIZE or name.startswith("TYPE_"):
                yield Finding(
                    REFUSED,
                    f"{_count(len(users), 'tensor')} of type {name} ({_named(users)}), whose size "
                    "TFLM does not know",
                    "keep such data outside of the model",
                )
        builtin = {id(t) for op, _, _ in self.operators() if op.kind != "CUSTOM" for t in op.inputs}
        halves = self.tensors_with(
            lambda t, r: t.type_name == "FLOAT16" and t.data is not None and id(t) in builtin
        )
        if halves:
            yield Finding(
                REFUSED,
                f"{_count(len(halves), 'constant')} of type FLOAT16 ({_named(halves)}), which no "
                "kernel of TFLM reads",
                "convert without target_spec.supported_types = [tf.float16]",
            )
        for op, _, where in self.operators():
            kinds = [t.type_name for t in op.inputs[:2] if t is not None]
            if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and kinds == [
                "FLOAT32",
                "INT8",
            ]:
                yield Finding(
                    REFUSED,
                    f"{where} has weights of int8 and activations of float32 (dynamic range "
                    "quantization), which TFLM refuses as a hybrid model",
                    "convert with a representative dataset, so that activations are int8 too",
                )
                break

    def quantization(self) -> Iterator[Finding]:
        def unknown(tensor: graph_lib.Tensor, record: Any) -> bool:
            found = record.Quantization()
            return found is not None and found.DetailsType() != 0

        yield from self.wrong(
            unknown,
            "{} quantized another way than per tensor or channel ",
            "(QuantizationParameters.details), which TFLM does not read",
            "quantize per tensor or per channel",
        )
        names = self.tensors_with(lambda t, r: t.is_variable and t.data is not None)
        if names:
            yield Finding(
                NOTE,
                f"{_count(len(names), 'variable tensor')} ({_named(names)}) with a value in the "
                "file; TFLM starts variables from zero",
            )

    # -- operators --------------------------------------------------------------------------------

    def options(self) -> Iterator[Finding]:
        for op, record, where in self.operators():
            if record.LargeCustomOptionsOffset() > 1:
                yield Finding(
                    WRONG,
                    f"the options of {where} lie behind the flatbuffer "
                    "(large_custom_options_offset), where TFLM does not look: the operator gets "
                    "none",
                    "write the operator's options into custom_options",
                )
            if op.kind != "CUSTOM" and op.custom_options:
                yield Finding(
                    REFUSED,
                    f"{where} is builtin and has custom options, which TFLM refuses",
                    "drop them",
                )
            if record.BuiltinOptions2Type() != 0:
                yield Finding(
                    NOTE,
                    f"{where} has options of the second kind (builtin_options_2), which TFLM reads "
                    "for no operator that it runs",
                )
            kind = record.BuiltinOptionsType()
            if kind not in graph_lib.OPTION_NAMES:
                yield Finding(
                    NOTE,
                    f"{where} has options of type {kind}, which is newer than this report and TFLM "
                    "of its date: not understood, and taken for none",
                )
            used = [t for t in op.intermediates if t.nbytes]
            if used:
                yield Finding(
                    REFUSED,
                    f"{where} has an intermediate tensor with a size ('{used[0].name}'), which "
                    "TFLM refuses",
                    "convert with a current TFLiteConverter",
                )

    def unwritten(self) -> Iterator[Finding]:
        read: list[str] = []
        reaches = False
        for number, graph in enumerate(self.graphs):
            written = {id(t) for t in graph.inputs}
            tainted: set[int] = set()
            for index, op in enumerate(graph.ops):
                inputs = [t for t in op.inputs if t is not None]
                for tensor in inputs:
                    if not _has_value(tensor) and id(tensor) not in written | tainted:
                        where = f" of subgraph {number}" if number else ""
                        name = op.custom_code or op.kind
                        read.append(f"'{tensor.name}' (read by operator {index} {name}{where})")
                        tainted.add(id(tensor))
                written |= {id(t) for t in op.outputs}
                if any(id(t) in tainted for t in inputs):
                    tainted |= {id(t) for t in op.outputs}
            for tensor in graph.outputs:
                if not _has_value(tensor) and id(tensor) not in written:
                    read.append(f"output '{tensor.name}'")
                    tainted.add(id(tensor))
            # What a called subgraph does is not followed into its caller.
            if number in self.called:
                reaches = reaches or any(id(t) in tainted for t in graph.outputs)
        if read:
            yield Finding(
                UNDETERMINED if reaches else NOTE,
                f"nothing writes {_named(read)}: "
                + ("what the model answers is not determined" if reaches else "no output needs it"),
                "make it an input, a constant or some operator's output",
            )

    # -- the file as a whole ----------------------------------------------------------------------

    def newer(self) -> Iterator[Finding]:
        """Fields that a later schema has and this report does not know."""
        tables = [("Model", schema.ModelT, [self.model])]
        tables.append(("SubGraph", schema.SubGraphT, self.subgraphs))
        tables.append(("Tensor", schema.TensorT, [record for _, record in self.records()]))
        tables.append(("Operator", schema.OperatorT, [record for _, record, _ in self.operators()]))
        for name, kind, records in tables:
            unknown = sum(_slots(record) > len(vars(kind())) for record in records)
            if unknown:
                yield Finding(
                    NOTE,
                    f"fields of the schema's {name} that are newer than this report and TFLM of "
                    f"its date ({_count(unknown, 'time')}): not understood",
                )

    def whole(self) -> Iterator[Finding]:
        model = self.model
        if model.Version() != 3:
            yield Finding(
                REFUSED,
                f"schema version {model.Version()}; applications of TFLM expect 3",
                "convert again with a current TFLiteConverter",
            )
        signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
        keys = {
            found.SubgraphIndex(): (found.SignatureKey() or b"?").decode("utf-8", "replace")
            for found in signatures
        }
        if len(signatures) > 1 or (keys and 0 not in keys):
            first = f"signature '{keys[0]}'" if 0 in keys else "none of them"
            yield Finding(
                NOTE,
                f"{_count(len(signatures), 'signature')} ({_named(list(keys.values()))}); TFLM "
                f"runs the first subgraph, which is {first}",
                "convert each signature to a file of its own to run the others",
            )
        never = sorted(set(range(len(self.graphs))) - self.called)
        if never:
            yield Finding(
                NOTE,
                f"{_count(len(never), 'subgraph')} ({_named([str(n) for n in never])}) that the "
                "first never calls; TFLM keeps their tensors and operators in the arena all the "
                "same",
                "convert the first signature alone",
            )
        others = [
            name
            for name in self.graphs[0].metadata
            if name not in _KNOWN_METADATA and name != "COMPRESSION_METADATA"
        ]
        if others:
            yield Finding(NOTE, f"metadata that TFLM does not read: {_named(others)}")

    def _called(self, number: int, seen: set[int]) -> set[int]:
        if number in seen or not 0 <= number < len(self.graphs):
            return seen
        seen.add(number)
        for op in self.graphs[number].ops:
            if op.kind in ("IF", "WHILE", "CALL_ONCE"):
                for field, called in vars(op.options).items() if op.options else ():
                    if field.endswith("SubgraphIndex"):
                        self._called(called, seen)
        return seen


def _slots(record: Any) -> int:
    """The highest field in use of a table, counted from one."""
    table = record._tab
    start = table.Pos - table.Get(flatbuffers.number_types.SOffsetTFlags, table.Pos)
    size = table.Get(flatbuffers.number_types.VOffsetTFlags, start)
    used = [at for at in range(4, size, 2) if table.Offset(at)]
    return max(used, default=2) // 2 - 1


def _has_value(tensor: graph_lib.Tensor) -> bool:
    return tensor.data is not None or tensor.is_variable or not tensor.nbytes


def survey(data: bytes, graphs: list[graph_lib.Graph]) -> list[Finding]:
    """Returns what there is to say about a file, the most serious first.

    Args:
        data: The file.
        graphs: Its subgraphs.
    """
    looked = _Survey(data, graphs)
    parts = (looked.constants, looked.unwritten, looked.options, looked.shapes, looked.types)
    more = (looked.quantization, looked.newer, looked.whole)
    found = [finding for part in (*parts, *more) for finding in part()]
    return sorted(found, key=lambda finding: _ORDER.index(finding.kind))
