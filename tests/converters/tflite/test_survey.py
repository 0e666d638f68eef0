"""What TFLM ignores, refuses or takes otherwise is named, feature by feature of the schema."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import reader, survey
from tests.support import tflite_cases

WORDS = {
    "behind": (survey.WRONG, "lie behind the flatbuffer (Buffer.offset), where TFLM does not look"),
    "blockwise": (survey.WRONG, "another way than per tensor or channel"),
    "empty_output": (survey.REFUSED, "makes a tensor without elements ('y', 1×0)"),
    "hybrid": (survey.REFUSED, "refuses as a hybrid model"),
    "large_custom_options": (survey.WRONG, "(large_custom_options_offset), where TFLM does not"),
    "open_shape": (survey.NOTE, "TFLM takes the one in the file, 1×8, and never resizes"),
    "sparse": (survey.WRONG, "sparse weights in one tensor"),
    "strings_and_custom": (survey.REFUSED, "one tensor of type STRING (words)"),
    "strings": (survey.REFUSED, "one tensor of type STRING (words), whose size TFLM does not know"),
    "two_signatures": (survey.NOTE, "2 signatures (hear, speak); TFLM runs the first subgraph"),
    "unwritten": (survey.UNDETERMINED, "what the model answers is not determined"),
    "unwritten_unused": (survey.NOTE, "no output needs it"),
}


def found_in(data: bytes) -> list[survey.Finding]:
    return survey.survey(data, reader.read_all(data))


@pytest.mark.parametrize("name", tflite_cases.CASES)
def test_each_case_is_named_and_nothing_else_is(name):
    found = found_in(tflite_cases.CASES[name]())
    if name not in WORDS:
        assert found == []
        return
    kind, words = WORDS[name]
    assert found[0].kind == kind
    assert words in found[0].text
    assert found[0].mend
    others = [finding.text for finding in found[1:]]
    assert name == "two_signatures" or others == []
    assert all("first never calls" in text for text in others)


@pytest.mark.parametrize("name", tflite_cases.kept_names())
def test_nothing_is_said_of_ordinary_files(name):
    assert found_in(tflite_cases.kept(name)) == []


def test_the_zoo_uses_nothing_of_the_kind():
    for path in (tflite_cases.ROOT / "zoo").glob("*/model.tflite"):
        assert found_in(path.read_bytes()) == []


def test_options_of_a_later_schema_are_named():
    data = bytearray(tflite_cases.CASES["dense"]())
    record = schema.Model.GetRootAs(data, 0).Subgraphs(0).Operators(0)._tab
    data[record.Pos + record.Offset(10)] = 200  # builtin_options_type
    found = found_in(bytes(data))
    assert [finding.kind for finding in found] == [survey.NOTE]
    assert "operator 0 (FULLY_CONNECTED) has options of type 200" in found[0].text


def test_what_a_subgraph_that_never_runs_reads_determines_no_answer():
    """The second subgraph of two reads a tensor that nothing writes."""
    other = schema.ModelT.InitFromPackedBuf(tflite_cases.CASES["unwritten"](), 0)

    def change(model):
        for tensor in other.subgraphs[0].tensors:
            tensor.buffer += len(model.buffers)
        for operator in other.subgraphs[0].operators:
            operator.opcodeIndex += len(model.operatorCodes)
        model.buffers += other.buffers
        model.operatorCodes += other.operatorCodes
        model.subgraphs += other.subgraphs

    found = changes(change)
    assert [finding.kind for finding in found] == [survey.NOTE] * 2
    assert "of subgraph 1): no output needs it" in found[0].text


def changes(change) -> list[survey.Finding]:
    return found_in(tflite_cases.changed(tflite_cases.CASES["dense"](), change))


def test_fields_of_a_later_schema_are_named():
    """A model table with a twelfth field, such as a schema of tomorrow may have."""
    data = bytearray(tflite_cases.CASES["dense"]())
    root = int.from_bytes(data[:4], "little")
    old = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    size = int.from_bytes(data[old : old + 2], "little")
    table = bytes(data[old : old + size]).ljust(4 + 2 * 12, b"\0")
    # The vtable anew at the end of the file, its last slot in use.
    at = len(data) + len(data) % 2
    data += bytes(at - len(data)) + (len(table)).to_bytes(2, "little") + table[2:-2] + b"\x04\0"
    data[root : root + 4] = (root - at).to_bytes(4, "little", signed=True)
    found = found_in(bytes(data))
    assert len(found) == 1
    assert "fields of the schema's Model that are newer" in found[0].text


def test_further_features():
    def external(model):
        model.subgraphs[0].tensors[1].externalBuffer = 1

    def compressed(model):
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"COMPRESSION_METADATA", 1
        model.metadata = [entry]

    def unknown_metadata(model):
        compressed(model)
        model.metadata[0].name = b"my_notes"

    def custom_options_on_builtin(model):
        model.subgraphs[0].operators[0].customOptions = [1, 2]

    def version(model):
        model.version = 4

    def long_buffer(model):
        weights = model.buffers[model.subgraphs[0].tensors[1].buffer]
        weights.data = np.append(weights.data, np.zeros(64, np.uint8))

    def plan_without_bytes(model):
        compressed(model)
        model.metadata[0].name, model.metadata[0].buffer = b"OfflineMemoryAllocation", 0

    def spare_behind(model):
        buffer, spare = schema.BufferT(), schema.TensorT()
        buffer.offset, buffer.size = 16, 16
        spare.shape, spare.name, spare.buffer = [4], b"spare", len(model.buffers)
        model.buffers.append(buffer)
        model.subgraphs[0].tensors.append(spare)

    def signature_elsewhere(model):
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serve", 1
        signature.inputs, signature.outputs = [], []
        model.signatureDefs = [signature]

    cases = (
        (external, survey.WRONG, "lie in another file (external_buffer)"),
        (compressed, survey.WRONG, "without USE_TFLM_COMPRESSION takes the indices for weights"),
        (unknown_metadata, survey.NOTE, "metadata that TFLM does not read: my_notes"),
        (custom_options_on_builtin, survey.REFUSED, "is builtin and has custom options"),
        (version, survey.REFUSED, "schema version 4; applications of TFLM expect 3"),
        (long_buffer, survey.NOTE, "one tensor (#1) is longer than the shape needs"),
        (plan_without_bytes, survey.REFUSED, "the offline plan (metadata OfflineMemoryAllocation)"),
        (spare_behind, survey.NOTE, "nothing that runs needs them"),
        (signature_elsewhere, survey.NOTE, "one signature (serve); TFLM runs the first subgraph"),
    )
    for change, kind, words in cases:
        found = changes(change)
        assert [finding.kind for finding in found] == [kind], found
        assert words in found[0].text
