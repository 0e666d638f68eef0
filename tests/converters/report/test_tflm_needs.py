"""The report on models of all origins, on files that TFLM takes otherwise, and on hostile ones."""

import importlib
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from converters.report import application, arena_map, tflm_needs, work
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from converters.tflm import timeline
from embbert_tf import errors
from tests.support import portable_models as pm
from tests.support import scan_graphs, tflite_cases, tflm_reports

ROOT = pathlib.Path(__file__).resolve().parents[3]
M4 = {"picture": "", "target": "cortex-m4"}
KEPT = ("sine", "lstm_float", "loop", "branch", "streaming", "attention", "convolution_int16")


def offline_plan_too_short() -> bytes:
    graph = pm.build(pm.random_folded(pm.ONE_LAYER), 8).graph
    graph.metadata["OfflineMemoryAllocation"] = graph.metadata["OfflineMemoryAllocation"][:-4]
    return writer.write(graph)


def hostile_names() -> bytes:
    x = graph_lib.Tensor("x\x1b[31mred\n", (1, 4), np.int8, 1.0)
    y = graph_lib.Tensor("y" * 5000, (1, 4), np.int8, 1.0)
    op = graph_lib.Op("CUSTOM", [x], [y], custom_code="evil*/\n#include </etc/passwd>\x07")
    return writer.write(graph_lib.Graph([x], [y], [op]))


def damaged() -> dict[str, bytes]:
    """A few; `test_graph` fuzzes the reader by the thousand."""
    rng = random.Random(5)
    sources = [
        tflite_cases.kept("gesture"),
        tflite_cases.kept("attention"),
        offline_plan_too_short(),
    ]
    result = {}
    for number in range(6):
        data = bytearray(sources[number % 3])
        for _ in range(3):
            at = rng.randrange(0, len(data) - 4) & ~3
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x10"])
        if number % 2:
            at = rng.randrange(len(data) - 2048, len(data) - 64)
            data[at : at + 8] = rng.randbytes(8)
        result[f"damaged{number}"] = bytes(data)
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Everything that is reported on, by name."""
    folder = tmp_path_factory.mktemp("files")
    contents = {name: make() for name, make in tflite_cases.CASES.items()}
    contents |= {name: tflite_cases.kept(name) for name in KEPT}
    built = pm.random_folded(pm.SMALL)
    contents["portable"] = pm.to_bytes(pm.build(built, 32))
    contents["greedy"] = pm.to_bytes(pm.build(built, 32, offline=False))
    contents["plan"], contents["hostile"] = offline_plan_too_short(), hostile_names()
    contents |= damaged()
    contents["empty"], contents["text"] = b"", b"text,label\n" * 50
    contents["cut"] = b"\x1c\0\0\0TFL3" + bytes(40)
    for name, data in contents.items():
        (folder / f"{name}.tflite").write_bytes(data)
    return {name: folder / f"{name}.tflite" for name in contents}


@pytest.fixture(scope="module")
def found(files):
    """Every report, from one process."""
    answers = tflm_reports.reports([(path, M4) for path in files.values()])
    return dict(zip(files, answers, strict=True))


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("sine", {"AddFullyConnected"}),
        ("lstm_float", {"AddUnidirectionalSequenceLSTM", "AddFullyConnected"}),
        ("loop", {"AddWhile", "AddTanh", "AddMul", "AddLess", "AddAdd"}),
        ("branch", {"AddIf", "AddSoftmax"}),
        ("streaming", {"AddCallOnce", "AddVarHandle", "AddReadVariable", "AddAssignVariable"}),
        ("attention", {"AddBatchMatMul", "AddMean"}),
        ("convolution_int16", {"AddConv2D", "AddAveragePool2D"}),
        ("portable", {"AddSoftmax", "AddRsqrt", "AddGather", "AddDepthwiseConv2D", "AddLogistic"}),
        ("greedy", {"AddSoftmax", "AddRsqrt", "AddGather", "AddDepthwiseConv2D", "AddLogistic"}),
    ],
)
def test_models_of_any_origin(name, methods, found):
    text = found[name]["text"]
    assert (found[name]["status"], found[name]["message"]) == (0, "")
    registered = set(re.findall(r"TF_LITE_ENSURE_STATUS\(resolver\.(\w+)\(", text))
    assert methods <= registered
    assert f"tflite::MicroMutableOpResolver<{len(registered)}>" in text
    assert re.search(r"^runs on TFLM: TFLM's answers to 3 inputs (equal|agree with)", text, re.M)
    rows = re.findall(r"^cortex-m4 +(\S+) +([\d,]+) +([\d,]+) +([\d,]+)$", text, re.M)
    assert [row[0] for row in rows] == ["CMSIS-NN", "reference"]
    for row in rows:
        arena, head, tail = (int(part.replace(",", "")) for part in row[1:])
        assert head + tail <= arena
    assert "the planner's layout agrees with TFLM to the byte" in text
    assert text.count("<- peak") == 1
    assert re.search(r"^peak: [\d,]+ bytes in use at \S.*; alive there:$", text, re.M)
    assert ("offline plan places" in text) == (name == "portable")
    assert "alignas(16) static uint8_t arena[" in text


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize(
    ("name", "status", "start", "words"),
    [
        ("behind", 2, "answers wrongly on TFLM", "lie behind the flatbuffer (Buffer.offset)"),
        ("sparse", 2, "answers wrongly on TFLM", "sparse weights"),
        ("blockwise", 2, "answers wrongly on TFLM", "QuantizationParameters.details"),
        ("large_custom_options", 2, "answers wrongly on TFLM", "large_custom_options_offset"),
        ("unwritten", 2, "loads and runs on TFLM, but its answer is not determined", "writes '#5'"),
        ("strings", 2, "does not run on TFLM", "type STRING (words), whose size TFLM does not"),
        ("hybrid", 2, "does not run on TFLM", "Input type: FLOAT32 with filter type: INT8"),
        ("empty_output", 2, "does not run on TFLM", "Dynamic tensors are not supported"),
        ("lacking", 2, "does not run on TFLM", "TFLM lacks ATAN2"),
        ("one_row", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("shifted", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("counted_down", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("squares", 0, "not tried on this machine", "no input was found that it takes"),
        ("scalar_input", 2, "loads and runs on TFLM, but its answer", "before anything writes"),
        ("strings_and_custom", 2, "does not run on TFLM", "type STRING (words), whose size TFLM"),
        ("embedding_lookup", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("open_shape", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("two_signatures", 0, "runs on TFLM", "equal those of the reference interpreter"),
        ("unwritten_unused", 0, "loads and answers on TFLM, not compared", "lacks data"),
        ("custom", 0, "not tried on this machine", "that the application brings along: MINE"),
    ],
)
def test_runs_is_said_of_what_runs_and_of_nothing_else(name, status, start, words, found):
    answer = found[name]
    assert answer["status"] == status, answer
    assert words in line_of(answer["text"], start)
    assert ("runs on TFLM: " in answer["text"]) == (start == "runs on TFLM")
    if status:
        assert words in answer["message"]
    # No figure where the model does not run as it is, but where an operator may still be brought.
    figure = "alignas(16) static uint8_t arena[" in answer["text"]
    assert figure == (status == 0 or name in ("unwritten", "scalar_input", "lacking"))
    # The reason comes first: nothing that TFLM's Python package says besides.
    assert "out of range (length is" not in answer["text"]
    assert "RuntimeError" not in answer["text"]


def test_how_to_mend_a_file_is_said(found):
    assert "write_model(read_model(old), new)" in line_of(found["behind"]["text"], "  mend: ")
    assert "representative dataset" in line_of(found["hybrid"]["text"], "  mend: ")
    assert "EXPERIMENTAL_SPARSITY" in line_of(found["sparse"]["text"], "  mend: ")


def test_operators_that_tflm_lacks_are_named_and_the_rest_is_printed(found):
    text = found["lacking"]["text"]
    assert "// TFLM has no ATAN2." in text
    assert "TFLM lacks: ATAN2" in text
    assert "and what ATAN2 asks for itself" in text
    assert "<- peak" in text


def test_resource_variables_need_their_own_object(found):
    text = found["streaming"]["text"]
    assert "tflite::MicroResourceVariables::Create(allocator, 1);" in text
    assert "interpreter(model, resolver, allocator, variables);" in text
    assert '#include "tensorflow/lite/micro/micro_resource_variable.h"' in text


def test_what_a_text_costs_is_said(found):
    assert "the whole 32 positions of its input for a text of three words" in line_of(
        found["portable"]["text"], "work: "
    )
    assert "positions" not in line_of(found["sine"]["text"], "work: ")


def test_int8_variants_are_registered_where_all_is_int8(found):
    text = found["sine"]["text"]
    assert "resolver.AddFullyConnected(tflite::Register_FULLY_CONNECTED_INT8())" in text
    assert '#include "tensorflow/lite/micro/kernels/fully_connected.h"' in text
    assert "-DCMSIS_NN" in text
    assert "_INT8" not in found["lstm_float"]["text"]


def test_own_operators_bring_their_header():
    path = ROOT / "zoo/snips/model.tflite"
    from converters.kernels import fused_graph

    graphs = reader.read_all(fused_graph.fuse(path.read_bytes()))
    need = application.needs(graphs)
    code = application.main_code(need, 13_104, "fused.tflite")
    assert '#include "embbert_ops.h"' in code
    assert "embbert::AddOperators(resolver)" in code
    assert "MicroMutableOpResolver<3>" in code
    assert any("tflm_app/tflm/embbert_ops.cc" in sentence for sentence in application.advice(need))


def test_the_selective_scan_brings_its_header():
    graph = scan_graphs.classifier(64, 48, 4, layers=1)
    # Dense layers from 16 channels: u, steps, B and C of 48 rows, four logits; and the scan.
    assert work.count([graph]).whole == 48 * 16 * (16 + 16 + 6 + 6) + 16 * 4 + 3 * 48 * 16 * 6
    need = application.needs([graph])
    assert not need.unknown and not need.embbert
    code = application.main_code(need, 5_536, "scans.tflite")
    assert '#include "embbert_scan_op.h"' in code and "embbert_ops.h" not in code
    assert '"EMBBERT_SELECTIVE_SCAN", embbert::Register_SELECTIVE_SCAN()' in code
    assert f"MicroMutableOpResolver<{len({op.kind for op in graph.ops})}>" in code
    assert any("embbert_scan.c of" in sentence for sentence in application.advice(need))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "not a .tflite: the file identifier 'TFL3' is missing at byte 4"),
        ("text", "not a .tflite"),
        ("cut", "damaged .tflite"),
    ],
)
def test_no_tflite_is_one_line(name, message, found):
    assert (found[name]["status"], found[name]["text"]) == (1, "")
    assert message in found[name]["message"]
    assert "\n" not in found[name]["message"]


def test_hostile_names_stay_out_of_terminal_and_code(found):
    text = found["hostile"]["text"]
    assert found["hostile"]["status"] == 0
    assert "\x1b" not in text
    assert "\x07" not in text
    assert not re.search(r"^#include </etc", text, re.MULTILINE)
    assert "Register_evil____include___etc_passwd__()" in text
    assert max(map(len, text.splitlines())) < 800


def test_a_plan_that_does_not_fit_the_file_is_said(found):
    text = found["plan"]["text"]
    assert re.search(r"no map of the arena: offline plan for \d+ tensors, but the file has", text)
    assert re.search(r"no arena figure: offline plan for \d+ tensors", text)


def test_damaged_files_end_in_one_line_or_a_report(found):
    statuses = set()
    for name in damaged():
        assert "\n" not in found[name]["message"]
        assert "Traceback" not in found[name]["text"]
        statuses.add(found[name]["status"])
    assert 1 in statuses


def test_a_subgraph_that_calls_itself_is_said():
    """The loop model's WHILE made to name its own graph as its body."""
    graphs = reader.read_all(tflite_cases.kept("loop"))
    loop = next(op for op in graphs[0].ops if op.kind == "WHILE")
    loop.options.bodySubgraphIndex = 0
    with pytest.raises(timeline.ArenaError, match=r"call each other without end|to run"):
        arena_map.build(graphs)
    loop.options.bodySubgraphIndex = 77
    with pytest.raises(timeline.ArenaError, match="calls subgraph 77"):
        arena_map.build(graphs)


# -- the command ----------------------------------------------------------------------------------


def command(*arguments, cwd=ROOT):
    """Runs the command; returns (exit status, stdout, stderr)."""
    result = subprocess.run(
        [sys.executable, "-m", "converters.tflm_report", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


def test_json_and_a_limit_for_continuous_integration(files, tmp_path):
    status, out, err = command(
        files["portable"], "--json", "--max_arena=8k", f"--html={tmp_path / 'a.html'}", cwd=tmp_path
    )
    assert status == tflm_needs.TOO_LARGE
    assert re.fullmatch(
        r"tflm_report: .*portable\.tflite: an arena of [\d,]+ bytes on cortex-m55, CMSIS-NN, "
        r"the limit is 8,192\n",
        err,
    )
    report = json.loads(out)
    assert report["verdict"] == "runs"
    arena = {(row["target"], row["kernels"]): row["bytes"] for row in report["arena"]}
    assert len(arena) == 10
    assert report["largest_arena_bytes"] == max(arena.values()) == arena["cortex-m55", "cmsis_nn"]
    assert report["inputs"] == [{"name": "ids", "type": "INT32", "shape": [1, 32]}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<svg" in page
    assert not re.search(r'(src|href)="(?!#)', page), "a page of its own needs no other file"
    assert "peak: " in page


def test_picture_is_named_after_the_model(files, tmp_path):
    status, out, err = command(
        files["sine"], "--max_arena=64k", "--kernels=reference", cwd=tmp_path
    )
    assert (status, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["sine.arena.png"]
    assert (tmp_path / "sine.arena.png").read_bytes().startswith(b"\x89PNG")
    assert out.endswith("picture: sine.arena.png\n")
    assert len(re.findall(r"^cortex-m\d+ +reference", out, re.M)) == 5


def test_mistakes_are_one_line(files, tmp_path):
    status, out, err = command(tmp_path / "none.tflite")
    assert (status, out) == (1, "")
    reason = "cannot be opened (No such file or directory)"
    assert err == f"tflm_report: {tmp_path / 'none.tflite'}: {reason}\n"
    status, _, err = command(files["sine"], "--timeout=0.001", "--picture=")
    assert status == 1
    assert err.endswith("given up after 0.001 seconds; allow more time\n")


def test_the_package_brings_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["tflm-report"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_a_limit_is_a_number_of_bytes():
    assert tflm_needs.ReportOptions(max_arena="65536").limit() == 65_536
    assert tflm_needs.ReportOptions(max_arena="1M").limit() == 1 << 20
    assert tflm_needs.ReportOptions().limit() is None
    with pytest.raises(errors.OptionError, match=r"such as 65536, 64k or 1M, not '64 kB'"):
        tflm_needs.ReportOptions(max_arena="64 kB")


def test_a_model_that_does_not_run_fails_before_its_size_does(found, files):
    answer = tflm_reports.reports([(files["lacking"], M4 | {"max_arena": "1"})])[0]
    assert answer["status"] == tflm_needs.DOES_NOT_RUN
    # A plan that cannot be followed leaves no figure to hold against the limit.
    answer = tflm_reports.reports([(files["plan"], M4 | {"max_arena": "1M"})])[0]
    assert answer["status"] in (tflm_needs.TOO_LARGE, tflm_needs.DOES_NOT_RUN)


# -- main.cc --------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not os.environ.get("TFLM_DIR"),
    reason="TFLM is the user's to bring: set TFLM_DIR (docs/tflm.md)",
)
@pytest.mark.parametrize("name", ["streaming", "portable", "hostile"])
def test_the_printed_program_compiles_as_it_is(name, found, tmp_path):
    code = found[name]["text"].split("main.cc:\n\n", 1)[1]
    (tmp_path / "main.cc").write_text(code)
    folder = pathlib.Path(os.environ["TFLM_DIR"])
    downloads = folder / "tensorflow/lite/micro/tools/make/downloads"
    includes = [
        folder,
        downloads / "flatbuffers/include",
        downloads / "gemmlowp",
        downloads / "ruy",
    ]
    includes += [folder / "third_party" / path.relative_to(downloads) for path in includes[1:]]
    subprocess.run(
        [
            *("arm-none-eabi-g++", "-std=c++17", "-mcpu=cortex-m4", "-mthumb", "-Wall", "-Wextra"),
            *("-Werror", "-fno-exceptions", "-fno-rtti", "-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN"),
            *(f"-isystem{path}" for path in includes if path.exists()),
            *("-fsyntax-only", tmp_path / "main.cc"),
        ],
        check=True,
    )
