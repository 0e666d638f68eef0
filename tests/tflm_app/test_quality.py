"""Compilers' warnings, clang-tidy and the fuzzers, over all the C."""

import json
import os
import shutil
import subprocess

import pytest

from tests.support.firmware_model import FIRMWARE, ROOT, SENTENCES, make
from tests.support.tokenizer_host import golden


@pytest.mark.slow
def test_every_compiler_and_core_is_without_warnings():
    result = make("check")
    assert result.returncode == 0, result.stdout + result.stderr
    clean = [line for line in result.stdout.splitlines() if line.endswith(": clean")]
    assert len(clean) == 14


@pytest.mark.slow
def test_clang_tidy_finds_nothing(tiny):
    result = make("tidy", IMAGE=tiny.path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_c_is_formatted():
    files = sorted(
        str(path)
        for path in FIRMWARE.rglob("*.[ch]")
        if "build" not in path.relative_to(FIRMWARE).parts
    )
    assert len(files) > 30
    subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT, check=True)


@pytest.mark.slow
def test_fuzzers_find_nothing(tiny, tmp_path):
    """Seconds a target: FUZZ_SECONDS, by default few; continuous integration takes 10."""
    seconds = int(os.environ.get("FUZZ_SECONDS", "2"))
    seeds = FIRMWARE / "build/fuzz/seeds/model_image"
    shutil.rmtree(seeds, ignore_errors=True)
    seeds.mkdir(parents=True)
    (seeds / "tiny").write_bytes(b"\0" + tiny.image)
    (seeds / "damaged").write_bytes(b"\1" + tiny.image[:-1] + b"\1")
    # In a folder with a blank, as any path that a user gives may be.
    path = tmp_path / "a tokenizer" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(json.dumps(golden()["tokenizer"]))
    result = make("fuzz", FUZZ_SECONDS=seconds, TOKENIZER=path, timeout=900 + 6 * seconds)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    counts = dict(line.split(": ") for line in result.stdout.splitlines() if "executions" in line)
    assert sorted(counts) == ["csv_reader", "line_reader", "model_image", "tokenizer"]
    assert all(int(count.split()[0]) > 100 for count in counts.values())


@pytest.mark.slow
def test_the_seed_of_the_image_fuzzer_gets_through(tiny):
    """Without this, the fuzzer might never come past the first check."""
    label, confidence = tiny.answer(SENTENCES[0])
    result = make("run", SANITIZE="1", IMAGE=tiny.path, TEXT=SENTENCES[0])
    assert result.stdout.startswith(f"{label} {confidence:.2f} %")
