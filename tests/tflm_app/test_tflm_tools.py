"""Arena sizing, benchmark table and build errors, as far as they go without TFLM at hand."""

import importlib.util
import pathlib
import subprocess

import pytest

from converters.benchmarks import tflm
from converters.firmware import model_image, size_arena, tflm_files
from converters.kernels import fused_graph
from converters.tflite import reader
from tests.support import tflm_models
from tests.support.runs import run_command

ROOT = pathlib.Path(__file__).resolve().parents[2]


class FakeTrial:
    """Runs from `loads` bytes on, answers correctly from `answers` on."""

    def __init__(self, loads, answers, used):
        self.loads, self.answers, self.used = loads, answers, used
        self.count, self.last_words = 0, "a reason"

    def run(self, arena, tokens=0):
        self.count += 1
        if arena < self.loads:
            return None
        logits = [1, 2] if arena >= self.answers else [3, 4]
        return {"used_bytes": self.used, "logits": logits}


@pytest.mark.parametrize("used", [100, 4096, 70000, 99990])
@pytest.mark.parametrize("more", [0, 12, 16, 400, 5000])
def test_bisection_finds_the_smallest_arena_that_loads(used, more):
    trial = FakeTrial(used + more, used + more, used)
    found = size_arena.size_on_target(trial, 200_000)
    assert used + more <= found.smallest < used + more + 2 * 16
    assert found.used == used
    assert trial.count < 30
    assert found.with_margin >= found.smallest + size_arena.MARGIN


def test_bisection_goes_on_until_the_answer_is_right():
    found = size_arena.size_on_target(FakeTrial(1000, 1300, 990), 100_000)
    assert found.smallest >= 1300
    assert found.smallest < 1300 + 16


def test_model_that_runs_with_no_arena_is_an_error():
    with pytest.raises(size_arena.SizeError, match="a reason"):
        size_arena.size_on_target(FakeTrial(1000, 1000, 900), 512)


def test_header_states_figure_and_margin():
    text = size_arena.header(size_arena.TargetSize(1000, 990, 5), "a program", "a board")
    assert "correctly: 1000" in text
    assert "Margin: 32 bytes" in text
    assert "#define MODEL_ARENA_BYTES 1040u" in text


@pytest.mark.parametrize(
    "labels",
    [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 500))],
)
def test_files_of_the_app(labels, tmp_path):
    """Of a score, two labels and many, and with blanks in the path."""
    tflite = tflm_models.write_folder(tmp_path / "my model", labels=labels)
    for graph in ("portable", "fused"):
        out = tmp_path / "my files" / graph
        done = run_command(
            "converters.generate_tflm", f"--model_folder={tmp_path / 'my model'}",
            f"--graph={graph}", f"--output_folder={out}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        parts = {
            part.kind: part.data
            for part in model_image.unpack((out / "model_image.bin").read_bytes())
        }
        expected = tflite if graph == "portable" else fused_graph.fuse(tflite)
        assert parts[model_image.Kind.TFLITE] == expected
        assert (out / "graph.tflite").read_bytes() == expected
        assert len(parts[model_image.Kind.TFLM_SHAPE]) == 24
        assert model_image.Kind.BLOCK_WQ not in parts
        assert parts[model_image.Kind.LABELS].count(b"\0") == labels
        text = (out / "model_shape.h").read_text()
        assert f"#define MODEL_LABELS {labels}\n" in text
        kinds = len(tflm_files.operators(reader.read(expected)))
        assert f"#define MODEL_OPERATORS {kinds}\n" in text
        assert "#define MODEL_IS_ENCODER 0\n" in text


def test_an_encoder_has_room_for_labels(tmp_path):
    done = run_command(
        "converters.generate_tflm", "--model_folder=zoo/encoder", "--graph=fused",
        f"--output_folder={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "model_shape.h").read_text()
    assert "#define MODEL_IS_ENCODER 1\n" in text and "#define MODEL_LABELS 128\n" in text


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("fuse", ["one.tflite"], "say the .tflite to write"),
        ("fuse", ["/no/such.tflite", "x.tflite"], "/no/such.tflite: cannot be opened"),
        ("generate_firmware", ["--output_folder=x"], "say one of --model_folder, --image"),
        ("generate_tflm", ["--graph=fused", "--output_folder=x"], "--model_folder"),
        ("generate_tflm", ["--trial_program=p", "--output_folder=x"], "needs --machine"),
        (
            "generate_tflm",
            ["--trial_program=/no/p.elf", "--machine=m", "--output_folder=x"],
            "/no/p.elf: no such file",
        ),
        ("generate_tflm", ["--model_folder=/no/such", "--output_folder=x"], "no model folder"),
        (
            "benchmarks.tflm",
            ["--model=m", "--tflm_dir=t", "--library=m4"],
            "BOARD=FILE, not --library=m4",
        ),
    ],
)
def test_commands_say_what_is_missing(module, arguments, message):
    done = run_command(f"converters.{module}", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_table():
    row = {
        "graph": "fused",
        "core": "M4",
        "kernels": "CMSIS-NN",
        "instructions": {12: 2_992_329, 256: 112_412_033},
        "arena_bytes": 73520,
        "flash": {"weights": 1000, "tokenizer": 200, "TFLM": 30, "kernels": 4, "app": 5},
    }
    lines = tflm.table([row]).splitlines()
    assert lines[0].startswith("| graph | core | kernels | n=12 | n=256 | arena | weights |")
    assert "| 2.99 | 112.41 | 73,520 | 1,000 | 200 | 30 | 4 | 5 | 1,239 |" in lines[2]
    assert lines[1].count("|") == lines[0].count("|")


def test_benchmark_builds_the_firmware_of_this_installation(tmp_path, monkeypatch):
    """A wheel's lies elsewhere than a checkout's."""
    (tmp_path / "tflm_app").mkdir()
    (tmp_path / "tflm_app/Makefile").write_text("$(error built in $(CURDIR))\n")
    monkeypatch.setattr(tflm.sources, "root", lambda: tmp_path)
    with pytest.raises(tflm.BenchmarkError, match=f"built in {tmp_path}/tflm_app"):
        tflm.measure(tmp_path, "fused", "mps2-an386", tmp_path / "lib.a", tmp_path)


def make(*arguments, path="/usr/bin:/bin"):
    return subprocess.run(
        ["make", "-C", str(ROOT / "tflm_app"), "RUNTIME=tflm", *arguments, "all"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path},
    )


@pytest.fixture
def something_like_tflm(tmp_path):
    """What make finds when it looks for TFLM: headers and a library without content."""
    header = tmp_path / "tensorflow/lite/micro/micro_interpreter.h"
    header.parent.mkdir(parents=True)
    header.touch()
    (tmp_path / "lib.a").touch()
    return [f"TFLM_DIR={tmp_path}", f"TFLM_LIB={tmp_path / 'lib.a'}"]


def check_message(done, message):
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TARGET=mps2-an386"], "RUNTIME=tflm needs TFLM_DIR"),
        (["TARGET=cortex-m4-64k"], "RUNTIME=tflm needs TFLM_DIR"),
        (["TARGET=host"], "is for boards"),
        (["TARGET=mps2-an386", "TFLM_DIR=/", "TFLM_LIB=/no.a"], "micro_interpreter.h"),
    ],
)
def test_make_says_what_is_missing(arguments, message, tmp_path):
    check_message(make(f"MODEL={tmp_path}", *arguments), message)


@pytest.mark.parametrize(
    "arena", ["16k", "-1", "0x100", "010", "1 2", "1)", "'", "9999999999", "a=b", "1;true", "$(x)"]
)
def test_make_wants_a_number_of_bytes(arena, tmp_path):
    done = make(f"MODEL={tmp_path}", "TARGET=mps2-an386", f"ARENA_BYTES={arena}")
    check_message(done, f"ARENA_BYTES={arena}: not a number of bytes")


@pytest.mark.parametrize("arena", ["0", "7", "13136", "999999999", ""])
def test_make_takes_a_number_of_bytes(arena, tmp_path):
    done = make(f"MODEL={tmp_path}", "TARGET=mps2-an386", f"ARENA_BYTES={arena}")
    check_message(done, "RUNTIME=tflm needs TFLM_DIR")


def test_make_names_the_package_of_the_cpp_library(something_like_tflm, tmp_path):
    compiler = tmp_path / "bin/arm-none-eabi-g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'fatal error: new: No such file' >&2; exit 1\n")
    compiler.chmod(0o755)
    arguments = [f"MODEL={tmp_path}", "TARGET=mps2-an386", *something_like_tflm]
    done = make(*arguments, path=f"{compiler.parent}:/usr/bin:/bin")
    check_message(done, "apt-get install libstdc++-arm-none-eabi-newlib")


def test_make_tells_tflm_from_another_library(something_like_tflm, tmp_path):
    done = make(f"MODEL={tmp_path}", "TARGET=mps2-an386", *something_like_tflm)
    if "libstdc++-arm-none-eabi-newlib" in done.stderr:
        pytest.skip("arm-none-eabi-g++ has no C++ library here, which make looks for first")
    check_message(done, "lib.a: no libtensorflow-microlite.a for Arm")


@pytest.mark.parametrize(
    ("core", "message"),
    [
        ("cortex-m0plus", "RUNTIME=tflm needs TFLM_DIR"),
        ("cortex-m4+nofp", "RUNTIME=tflm needs TFLM_DIR"),
        ("cortex-m85", "no board here is like -mcpu=cortex-m85"),
    ],
)
def test_make_needs_a_board_of_the_same_core(core, message, tmp_path):
    """The arena is found there, so that one's own board needs no emulator."""
    board = tmp_path / "my_board"
    board.mkdir()
    (board / "board.mk").write_text(f"CPU := -mcpu={core}\nIMPLEMENTATIONS := portable\n")
    check_message(make(f"MODEL={tmp_path}", f"BOARD_DIR={board}"), message)


@pytest.fixture(scope="module")
def size_report():
    """tflm_app/tools/size_report.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "size_report", ROOT / "tflm_app/tools/size_report.py"
    )
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    return report


def test_size_report_tells_tflm_apart(size_report):
    library = "/x/lib/libtensorflow-microlite.a"
    for path, part in (
        (f"{library}(micro_allocator.o)", "TFLM core"),
        (f"{library}(single_arena_buffer_allocator.o)", "TFLM core"),
        (f"{library}(fully_connected.o)", "TFLM kernels"),
        (f"{library}(arm_nn_mat_mult_nt_t_s8.o)", "TFLM kernels"),
        ("/usr/lib/libg_nano.a(lib_a-memcpy.o)", "libc"),
        ("/usr/lib/gcc/libgcc.a(_udivmoddi4.o)", "libc"),
        ("build/m/fused/tflm/embbert_ops.o", "application"),
        ("build/m/tflm/embbert_scan.o", "kernels"),
        ("build/m/embbert/src/kernels/embbert_dsp.o", "kernels"),
        ("build/m/embbert/src/embbert_tokenizer.o", "tokenizer"),
        ("build/m/embbert/src/embbert_model_image.o", "application"),
        ("build/m/fused/model_image.o", "weights"),
    ):
        assert size_report.part_of(path) == part, path


def write_call_graph(folder, frames, calls):
    """Writes what gcc's -fcallgraph-info=su does."""
    lines = [
        f'node: {{ title: "{name}" label: "{name}\\na.c:1:1\\n{size} bytes (static)" }}'
        for name, size in frames.items()
    ]
    lines += [
        f'edge: {{ sourcename: "{source}" targetname: "{target}" label: "app/main.c:1:1" }}'
        for source, target in calls
    ]
    folder.mkdir(exist_ok=True)
    (folder / "a.ci").write_text("\n".join(lines))


@pytest.fixture
def app_on_tflm(tmp_path):
    """A program whose `run` goes deeper before it calls TFLM than `measure` does."""
    frames = {"start": 8, "main": 8, "command_run": 300, "command_measure": 20, "open_engine": 40}
    frames |= {"embbert_backend_open": 50, "embbert_backend_infer": 60}
    calls = [("start", "main"), ("main", "open_engine"), ("main", "__indirect_call")]
    calls += [("open_engine", "embbert_backend_open"), ("embbert_backend_open", "tflite")]
    calls += [(f"command_{name}", "embbert_backend_infer") for name in ("run", "measure")]
    write_call_graph(tmp_path / "ci", frames, calls)
    return tmp_path / "ci"


@pytest.mark.parametrize("used", [100, 1700, 9000])
def test_stack_of_a_program_on_tflm_is_not_below_the_measured(
    size_report, app_on_tflm, used, capsys
):
    graph = size_report.CallGraph([app_on_tflm])
    assert graph.deepest() == (376, ["start", "main", "command_run", "embbert_backend_infer"])
    found = size_report.print_stack(graph, {"stack_used": used, "stack_size": 9999}, True)
    # TFLM's share: what was measured less start, main and command_measure, the shallowest way in.
    assert found["stack_computed"] == max(376, used - 36 + 316)
    assert found["stack_bytes"] == found["stack_computed"] >= used == found["stack_measured"]
    assert "start > main > command_run > embbert_backend_infer" in capsys.readouterr().out


def test_stack_of_a_program_on_tflm_that_nobody_measured(size_report, app_on_tflm, capsys):
    found = size_report.print_stack(size_report.CallGraph([app_on_tflm]), None, True)
    assert found == {"stack_computed": None, "stack_bytes": None}
    assert "not computed" in capsys.readouterr().out


def test_stack_without_tflm_is_the_deeper_of_both(size_report, app_on_tflm, tmp_path, capsys):
    graph = size_report.CallGraph([app_on_tflm])
    for used, wanted in ((300, 376), (380, 380)):
        found = size_report.print_stack(graph, {"stack_used": used, "stack_size": 999}, False)
        assert found == {"stack_computed": 376, "stack_measured": used, "stack_bytes": wanted}
    write_call_graph(tmp_path / "loop", {"main": 8, "f": 8}, [("main", "f"), ("f", "main")])
    found = size_report.print_stack(size_report.CallGraph([tmp_path / "loop"]), None, False)
    assert found == {"stack_computed": None, "stack_bytes": None}
    assert "main calls itself" in capsys.readouterr().out
