"""Exports: what is in the folder, plain C on the host and on a board, and folders in the way."""

import pathlib
import re
import shutil
import tomllib

import pytest

import converters
from converters.exports import ecosystems, folder, options, render
from embbert_tf import errors
from tests.support.encoder import Encoder
from tests.support.exports import (
    ARM,
    KINDS,
    QEMU,
    check_row,
    check_sizes,
    commands,
    export,
    kind,
    shell,
)
from tests.support.firmware_model import ROOT, TinyModel
from tests.support.runs import run_command

SANITIZE = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
STRICT = "-std=c11 -Wall -Wextra -Wconversion -Werror"


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    base = tmp_path_factory.mktemp("kinds")
    return {name: kind(name, base) for name in KINDS}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The zoo's model in plain C, with its figures."""
    path = tmp_path_factory.mktemp("export") / "snips"
    chosen = converters.ExportOptions(name="snips", max_tokens=64)
    return converters.export_firmware(ROOT / "zoo/snips", path, chosen)


@pytest.fixture(scope="module")
def library(kinds, tmp_path_factory):
    """Options of gcc that bring along the library of an export, compiled once with sanitizers."""
    path = tmp_path_factory.mktemp("library")
    export(kinds["label"].model.image, path / "out", name="any")
    include = f"-I{path}/out/embbert/include"
    sources = "out/embbert/src/*.c out/embbert/src/kernels/*.c"
    shell(f"gcc {STRICT} {SANITIZE} {include} -c {sources}", path)
    return f"{STRICT} {SANITIZE} {include} {path}/*.o"


def run_example(path, name, library, text):
    """What the example of an export prints for lines of text."""
    shell(f"gcc -I. example/main.c {name}_model.c {library} -o {name}_example", path)
    return shell(f"./{name}_example", path, text)


def memory_bytes(path, name, folder):
    """<NAME>_MEMORY_BYTES of an export on a Cortex-M4. An engine takes some 300 bytes besides."""
    (folder / "memory.c").write_text(
        f'#include <stdio.h>\n#include "{name}_model.h"\n'
        f'int main(void) {{ printf("%d", (int){name.upper()}_MEMORY_BYTES); return 0; }}\n'
    )
    includes = f"-I{path} -I{path}/embbert/include"
    shell(f"{ARM} {includes} memory.c {path}/example/qemu_vectors.c -o memory.elf", folder)
    return int(shell(f"{QEMU} memory.elf", folder))


def test_the_commands_of_the_readme_answer_as_make_run_does(measured, snips):
    """One gcc line and one arm-none-eabi-gcc line, literally."""
    host_build, host_run, arm_build, arm_run = commands(measured.path / "README.md")
    assert host_build.startswith("gcc ") and arm_build.startswith("arm-none-eabi-gcc ")
    shell(host_build, measured.path)
    shell(arm_build, measured.path)
    (answer,) = snips.outputs
    assert shell(host_run, measured.path) == shell(arm_run, measured.path) == answer + "\n"
    check_sizes("c", measured.path / "snips_example.elf")


def test_the_header_says_what_was_measured(measured, snips, tmp_path):
    figures = measured.figures
    header = (measured.path / "snips_model.h").read_text()
    for number in (figures.flash, figures.ram, figures.stack, figures.open):
        assert f" {number:,} " in header
    check_row("any", figures.flash, figures.ram)
    code = figures.flash - figures.model
    assert figures.model == len(snips.image) and 10_000 < code < 25_000
    # As README and embbert.h have it: 2.24 M for 12 tokens, below 2 kB of stack.
    assert list(figures.infer) == [12, 28]
    assert round(figures.infer[12], -4) == 2_240_000 < figures.infer[28] < 7_000_000
    assert 500 < figures.stack < 2048
    assert 200 < figures.ram - memory_bytes(measured.path, "snips", tmp_path) < 500


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_task_compiles_without_warnings_and_answers(kinds, library, name, tmp_path):
    export(kinds[name].model.image, tmp_path / "out", name=name)
    printed = run_example(tmp_path / "out", name, library, kinds[name].inputs)
    assert printed.splitlines() == kinds[name].outputs


@pytest.mark.parametrize("ecosystem", ["c", "arduino"])
def test_an_encoder_is_taught_by_the_example(library, ecosystem, tmp_path):
    encoder = Encoder(tmp_path)
    exported = export(encoder.image, tmp_path / "out", name="talk", ecosystem=ecosystem)
    encoder.labels.learn("light", encoder.row("turn on the kitchen light"))
    encoder.labels.learn("music", encoder.row("play a song of the beatles"))
    header = next((tmp_path / "out").rglob("talk_model.h")).read_text()
    assert "TALK_LABELS_BYTES(labels) EMBBERT_LABELS_BYTES(33, labels)" in header
    assert "your program teaches it some" in (tmp_path / "out/README.md").read_text()
    if ecosystem == "c":
        asked = ["lamp", "a song please", "turn on the kitchen light"]
        printed = run_example(exported.path, "talk", library, "\n".join(asked) + "\n")
        assert printed.splitlines() == [encoder.said(text) for text in asked]


def test_exports_of_several_names_link_in_one_program(kinds, tmp_path):
    """Every symbol begins with the name or with embbert_, also on a board with other kernels."""
    sources, opens = [], []
    for name in KINDS:
        export(kinds[name].model.image, tmp_path / name, name=name)
        sources.append(f"-I{tmp_path / name} {tmp_path / name}/{name}_model.c")
        opens.append(
            f"  static _Alignas(8) unsigned char {name}_memory[{name.upper()}_MEMORY_BYTES];\n"
            f"  status |= {name}_open(&engine, {name}_memory, sizeof({name}_memory));\n"
            f"  status |= engine.memory_needed != {name.upper()}_MEMORY_BYTES;\n"
            f"  status |= engine.config.labels != {name.upper()}_LABELS;\n"
        )
    headers = "".join(f'#include "{name}_model.h"\n' for name in KINDS)
    (tmp_path / "main.c").write_text(
        f"{headers}static embbert_engine_t engine;\nint main(void) {{\n  int status = 0;\n"
        f"{''.join(opens)}  return status;\n}}\n"
    )
    library = f"-I{tmp_path}/label/embbert/include {tmp_path}/label/embbert/src/*.c"
    library += f" {tmp_path}/label/embbert/src/kernels/*.c"
    build = f"{STRICT} -O1 main.c {' '.join(sources)} {library}"
    shell(f"gcc {build} -o all && ./all", tmp_path)
    symbols = shell("nm --extern-only --defined-only all", tmp_path)
    ours = set(re.findall(r"^\S+ [TDRB] (?!_|main|data_start)(\w+)$", symbols, re.MULTILINE))
    starts = tuple(f"{name}_" for name in (*KINDS, "embbert"))
    assert len(ours) > 3 * len(KINDS) and not [s for s in ours if not s.startswith(starts)]
    vectors = f"{tmp_path}/label/example/qemu_vectors.c"
    shell(f"{ARM} {build} {vectors} -o all.elf && {QEMU} all.elf", tmp_path)


def test_the_headers_are_cpp_and_the_example_is_short(kinds, tmp_path):
    export(kinds["many_labels"].model.image, tmp_path / "out", name="some")
    (tmp_path / "user.cc").write_text(
        '#include "some_model.h"\nalignas(8) static uint8_t memory[SOME_MEMORY_BYTES];\n'
        "int open(embbert_engine_t* e) { return some_open(e, memory, sizeof(memory)); }\n"
    )
    shell(
        "g++ -std=c++11 -Wall -Wextra -pedantic -Werror -Iout -Iout/embbert/include -c user.cc",
        tmp_path,
    )
    assert 20 <= len((tmp_path / "out/example/main.c").read_text().splitlines()) <= 30


def test_max_tokens_shortens(kinds, library, tmp_path):
    model = kinds["label"].model
    export(model.image, tmp_path / "out", name="short", max_tokens=8)
    header = (tmp_path / "out/short_model.h").read_text()
    assert "#define SHORT_MAX_TOKENS 8\n" in header
    text = "volume up up up up up up up up up up up up"
    ids = model.ids(text)
    assert len(ids) > 8
    printed = run_example(tmp_path / "out", "short", library, f"{text}\n")
    logits = model.reference.infer(ids[:8], [1] * 8)
    assert printed.split(" ")[0] == model.labels[int(logits.argmax())].split(" ")[0]


def test_the_figures_of_a_shortened_model_are_its_own(measured, tmp_path):
    chosen = converters.ExportOptions(name="snips", max_tokens=8)
    done = converters.export_firmware(ROOT / "zoo/snips", tmp_path / "out", chosen)
    assert f" {done.figures.ram:,} bytes: SNIPS_MEM" in (done.path / "snips_model.h").read_text()
    # 2 D + 3 bytes a token, of D = 128.
    assert measured.figures.ram - done.figures.ram > 20 * 259
    assert 200 < done.figures.ram - memory_bytes(done.path, "snips", tmp_path) < 500
    assert list(done.figures.infer) == [8]
    # The same model and code; what the compiler knows of the length moves a few instructions.
    assert abs(done.figures.flash - measured.figures.flash) <= 128


def test_labels_of_any_kind_stay_within_their_comment(library, tmp_path):
    names = ["*/ int broken;", "ends in \\", "??/", "größer", 'say "hi"', "日本 \u202e", "a\tb"]
    model = TinyModel(tmp_path / "model", names=names)
    export(model.image, tmp_path / "out", name="odd")
    printed = run_example(tmp_path / "out", "odd", library, "turn on the light\n")
    assert printed == "{} {:.2f} %\n".format(*model.answer("turn on the light"))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"name": "my model"}, "name must be a C identifier"),
        ({"name": "2fast"}, "name must be a C identifier"),
        ({"name": "größe"}, "name must be a C identifier"),
        ({"name": ""}, "name must be a C identifier"),
        ({"name": "_x"}, "name must be a C identifier"),
        ({"name": "a__b"}, "two underscores"),
        ({"name": "embbert"}, "library's own"),
        ({"name": "x" * 41}, "at most 40 letters"),
        ({"name": "x", "ecosystem": "esp_idf"}, "two letters or more for ESP-IDF"),
        ({"max_tokens": 1}, "max_tokens must be 0, or 2 at least"),
        ({"max_tokens": 1025}, "max_tokens must be at most 1024"),
        ({"ecosystem": "cobol"}, "ecosystem must be one of c, cmake, arduino"),
        ({"runtime": "onnx"}, "runtime must be one of embbert, tflm"),
    ],
)
def test_unusable_options_are_explained(chosen, message):
    with pytest.raises(errors.OptionError, match=message):
        converters.ExportOptions(**chosen)


def test_somebodys_files_are_left_alone(kinds, tmp_path):
    image = kinds["label"].model.image
    (tmp_path / "work").mkdir()
    (tmp_path / "work/notes.txt").write_text("mine")
    with pytest.raises(
        folder.ExportError, match=r"work: there are files .* empty or does not exist"
    ):
        export(image, tmp_path / "work")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "work"]
    assert (tmp_path / "work/notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="cannot be a folder"):
        export(image, tmp_path / "work/notes.txt")
    with pytest.raises(ValueError, match="cannot be a folder"):
        export(image, tmp_path / "work/notes.txt/below")


def test_the_current_folder_is_not_replaced(kinds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(folder.ExportError, match="current folder cannot be replaced"):
        export(kinds["label"].model.image, ".")
    (tmp_path / "below").mkdir()
    export(kinds["label"].model.image, "below")
    assert (tmp_path / "below/README.md").is_file()


def test_an_earlier_export_is_replaced_unless_somebody_changed_it(kinds, tmp_path):
    image, out = kinds["label"].model.image, tmp_path / "out"
    export(image, out, name="first")
    export(image, out, name="second")
    assert not (out / "first_model.c").exists() and (out / "second_model.c").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (out / "example/main.c").write_text("int main(void) { return 0; }\n")
    (out / "second_example").write_text("a program")
    with pytest.raises(folder.ExportError, match=r"example/main\.c, second_example changed"):
        export(image, out, name="third")
    assert (out / "second_model.c").is_file()
    (out / folder.MANIFEST).write_text("[]")
    with pytest.raises(folder.ExportError, match="not a list of an export's files"):
        export(image, out, name="third")


def test_a_failure_leaves_what_was_there(kinds, tmp_path, monkeypatch):
    image, out = kinds["label"].model.image, tmp_path / "out"
    export(image, out, name="first")
    before = sorted(out.rglob("*"))
    replace = folder.os.replace

    def full(source, target):
        if pathlib.Path(source).name == "new":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(folder.os, "replace", full)
    with pytest.raises(ValueError, match=r"out: cannot be written \(No space left on device\)"):
        export(image, out, name="second")
    assert sorted(out.rglob("*")) == before and [path.name for path in tmp_path.iterdir()] == [
        "out"
    ]


def test_without_tools_the_header_says_so(kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = export(kinds["label"].model.image, tmp_path / "out", name="blind", measure=True)
    assert (
        done.figures is None
        and "arm-none-eabi-gcc and qemu-system-arm missing" in done.not_measured
    )
    assert f"was not measured: {done.not_measured}." in (tmp_path / "out/blind_model.h").read_text()
    assert f"not measured: {done.not_measured}" in done.summary()


def test_the_command_exports(tmp_path):
    done = run_command(
        "converters.export",
        "--model=zoo/snips",
        "--for=c",
        "--name=snips",
        "--nomeasure",
        f"--output={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "README.md says how to use them" in done.stdout
    assert (tmp_path / "out/snips_model.c").is_file()
    done = run_command("converters.export", "--model=zoo/none", f"--output={tmp_path / 'other'}")
    assert done.returncode == 1 and done.stderr.startswith("export: zoo/none")
    assert not (tmp_path / "other").exists()


def test_every_ecosystem_is_described_and_the_version_is_the_projects():
    assert tuple(ecosystems.ECOSYSTEMS) == options.ECOSYSTEMS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == render.VERSION


FREERTOS = """#pragma once
#include <stddef.h>
typedef struct { const char* const* next; }* QueueHandle_t;
enum { pdPASS = 1, portMAX_DELAY = -1 };
int xQueueReceive(QueueHandle_t queue, void* item, int ticks);
"""


def test_the_projects_readme_shows_these_commands_and_lines(measured, library, tmp_path):
    readme = (ROOT / "README.md").read_text()
    for command in commands(measured.path / "README.md"):
        assert f"\n{command}\n" in readme
    blocks = re.findall(r"^```c\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    plain, task = (block for block in blocks if "snips_open" in block)
    assert len(plain.splitlines()) <= 14 and len(task.splitlines()) <= 14
    (tmp_path / "FreeRTOS.h").write_text(FREERTOS)
    (tmp_path / "main.c").write_text(
        f'{plain}\n#include "FreeRTOS.h"\n{task}\n'
        "int xQueueReceive(QueueHandle_t queue, void* item, int ticks) {\n"
        "  return *queue->next != NULL && strcpy(item, *queue->next++) && ticks < 0 ? pdPASS : 0;\n"
        "}\n"
        'int main(void) {\n  const char* const texts[] = {"play jazz", "rate this book", NULL};\n'
        "  print_label(texts[0]);\n  QueueHandle_t queue = &(typeof(*queue)){texts};\n"
        "  classifier(queue);\n  return 0;\n}\n"
    )
    model = f"-I{measured.path} {measured.path}/snips_model.c"
    flags = library.replace("-std=c11", "-std=gnu11").replace("-Wextra", "")
    shell(f"gcc -I. main.c {model} {flags} -o main", tmp_path)
    assert shell("./main", tmp_path).splitlines() == ["PlayMusic", "PlayMusic", "RateBook"]
