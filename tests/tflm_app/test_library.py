"""The library apart from the demonstration: its promises, its names, its one header."""

import re
import subprocess

import pytest

from converters.firmware import c_files
from tests.support.firmware_model import FIRMWARE, SENTENCES, TinyModel, make

LIBRARY = FIRMWARE / "embbert"
INCLUDE = f"-I{LIBRARY / 'include'}"
HEADERS = sorted((LIBRARY / "include").glob("*.h"))
SOURCES = sorted(LIBRARY.rglob("*.c"))
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
CORES = {
    "host": ("gcc",),
    "cortex-m0plus": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m0plus"),
    "cortex-m4": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m4"),
    "cortex-m55": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard"),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return TinyModel(tmp_path_factory.mktemp("other"), d=32, e=2, blocks=3, labels=3, seed=5)


def compile_c(*arguments, cwd=None):
    done = subprocess.run(
        list(map(str, arguments)), capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("optimize", ["-O0", "-O2"])
def test_engine_keeps_its_promises(tiny, other, tmp_path, optimize):
    """Memory, max_tokens, progress, closed engines, two models in one program: engine_test.c."""
    (tmp_path / "first.c").write_text(c_files.c_source(tiny.image, "first"))
    (tmp_path / "second.c").write_text(c_files.c_source(other.image, "second"))
    (tmp_path / "first_shape.h").write_text(c_files.shape_header(tiny.image))
    program = tmp_path / "engine_test"
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    compile_c(
        *("gcc", "-std=c11", optimize, *WARNINGS, *sanitize, INCLUDE, f"-I{tmp_path}"),
        *(FIRMWARE / "tests/engine_test.c", tmp_path / "first.c", tmp_path / "second.c"),
        *(*SOURCES, "-o", program),
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all promises kept\n"


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("profile", [(), ("-DEMBBERT_PROFILE",)])
def test_every_external_symbol_begins_with_embbert(core, profile, tmp_path):
    compile_c(
        *(*CORES[core], "-std=c11", "-O2", *WARNINGS, *profile, INCLUDE, "-c", *SOURCES),
        cwd=tmp_path,
    )
    objects = sorted(map(str, tmp_path.glob("*.o")))
    assert len(objects) == len(SOURCES)
    listing = subprocess.run(
        ["nm" if core == "host" else "arm-none-eabi-nm", "--extern-only", *objects],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    symbols = re.findall(r"^[0-9a-f ]+ ([A-Z]) (\S+)$", listing, re.MULTILINE)
    defined = {name for kind, name in symbols if kind != "U"}
    assert {"embbert_engine_open", "embbert_tokenizer_encode", "embbert_infer"} <= defined
    assert not [name for name in defined if not name.startswith("embbert_")]
    # And beside its own, it needs memcpy and the like, and the compiler's arithmetic.
    needed = {name for kind, name in symbols if kind == "U"} - defined
    allowed = r"mem(cpy|set|cmp|move)|strlen|__aeabi_\w+|__gnu_thumb1_\w+|__\w+[sd]i2"
    clock = r"|embbert_clock(_units)?" if profile else ""
    assert not [name for name in needed if not re.fullmatch(allowed + clock, name)]


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_headers_compile_alone_in_c_and_cpp(header, tmp_path):
    strict = ("-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", INCLUDE)
    (tmp_path / "user.c").write_text(f'#include "{header.name}"\n#include "{header.name}"\n')
    (tmp_path / "user.cc").write_text(f'#include "{header.name}"\n#include "{header.name}"\n')
    for core in ("host", "cortex-m4", "cortex-m55"):
        compiler, *flags = CORES[core]
        compile_c(compiler, *flags, "-std=c11", *strict, tmp_path / "user.c")
        cpp = compiler.replace("gcc", "g++")
        for standard in ("-std=c++11", "-std=c++20"):
            compile_c(cpp, *flags, standard, *strict, tmp_path / "user.cc")


def test_the_example_in_the_header_compiles_and_answers(tiny, tmp_path):
    header = (LIBRARY / "include/embbert.h").read_text()
    comment = header[header.index("// Example:\n") : header.index("// Memory. ")]
    lines = [line.removeprefix("//").removeprefix("   ") for line in comment.splitlines()[1:]]
    example = "\n".join(lines)
    assert example.count("#include") == 2 and '#include "embbert.h"' in example
    (tmp_path / "example.c").write_text(example + "\n")
    (tmp_path / "model_image.c").write_text(c_files.c_source(tiny.image))
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\nconst char* label_of(const char* text);\n"
        "int main(int count, char** texts) {\n"
        "  for (int i = 1; i < count; i++) puts(label_of(texts[i]));\n  return 0;\n}\n"
    )
    files = [tmp_path / name for name in ("example.c", "model_image.c", "main.c")]
    compile_c(
        *("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", INCLUDE, *files, *SOURCES),
        *("-o", tmp_path / "example"),
    )
    done = subprocess.run(
        [tmp_path / "example", *SENTENCES], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == [tiny.answer(text)[0] for text in SENTENCES]


@pytest.mark.slow
def test_max_tokens_fits_a_long_model_into_little_ram(tmp_path):
    """The `embbert` preset at 256 tokens, too long for 64 kB, is explained; shortened, it runs."""
    model = TinyModel(tmp_path, d=128, r=16, k=32, blocks=4, max_length=256)
    text = "turn on the kitchen light"
    board = {"TARGET": "cortex-m4-64k", "IMAGE": model.path, "TEXT": text}
    result = make("run", **board)
    assert result.returncode != 0
    assert "cortex-m4-64k has too little RAM" in result.stderr
    assert "arm-none-eabi/bin/ld" not in result.stderr
    most = int(re.search(r"MAX_TOKENS=(\d+) or less fits", result.stderr)[1])
    assert 128 <= most < 256
    label, confidence = model.answer(text)
    for tokens in (most, 128):
        result = make("run", **board, MAX_TOKENS=tokens)
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.splitlines()[0] == f"{label} {confidence:.2f} %"
    information = make("info", **board, MAX_TOKENS=128).stdout
    assert "at most 128 tokens" in information


@pytest.mark.parametrize("value", ["1", "0", "-3", "1025", "many", "1e2", "12;reboot"])
def test_unusable_max_tokens_is_explained(tiny, value):
    result = make("info", IMAGE=tiny.path, MAX_TOKENS=value)
    assert result.returncode != 0
    assert "a number of tokens, 2 to 1024" in result.stderr
