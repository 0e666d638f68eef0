"""Builds the C tokenizer for the host and encodes with it; shared by the tokenizer's tests."""

import gzip
import itertools
import json
import pathlib
import struct
import subprocess

import numpy as np

from embbert_tf.data import tokenizer as tokenizer_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "tflm_app"
SOURCE = FIRMWARE / "embbert" / "src" / "embbert_tokenizer.c"
INCLUDE = f"-I{FIRMWARE / 'embbert' / 'include'}"
PROGRAMS = FIRMWARE / "tests"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(output: pathlib.Path, compiler: str = "gcc", *options: str, sanitize: bool = True):
    """Compiles the command-line encoder."""
    command = [
        compiler,
        *WARNINGS,
        "-O2",
        *(SANITIZERS if sanitize else []),
        *options,
        INCLUDE,
        str(SOURCE),
        str(PROGRAMS / "tokenizer_encode_cli.c"),
        "-o",
        str(output),
    ]
    subprocess.run(command, check=True)
    return output


def record(text: bytes, pair: bytes | None = None, max_length: int = 1 << 20) -> bytes:
    """One request to the command-line encoder."""
    return (
        struct.pack("<III", len(text), 0xFFFFFFFF if pair is None else len(pair), max_length)
        + text
        + (pair or b"")
    )


def encode_all(binary, tables, requests: list[bytes], timeout: float = 900) -> list[list[int]]:
    """Encodes records; fails on any status but success."""
    done = subprocess.run(
        [str(binary), str(tables)],
        input=b"".join(requests),
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return parse_answers(done.stdout, len(requests))


def golden() -> dict:
    """The golden file: a tokenizer, and texts with the ids they must have."""
    with open(ROOT / "tests" / "golden" / "tokenizer.json", encoding="utf-8") as file:
        return json.load(file)


def golden_texts(case: dict) -> tuple[bytes, bytes | None]:
    """Text and pair of a golden case as bytes."""

    def read(key):
        if f"{key}_hex" in case:
            return bytes.fromhex(case[f"{key}_hex"])
        return case[key].encode() if key in case else None

    return read("text"), read("pair")


def parse_answers(out: bytes, count: int) -> list[list[int]]:
    """Reads what an encoder answered to `count` records; fails on any status but success."""
    results = []
    at = 0
    for index in range(count):
        status, n = struct.unpack_from("<iI", out, at)
        at += 8
        assert status == 0, f"record {index}: status {status}"
        results.append(np.frombuffer(out, "<u2", n, at).tolist())
        at += 2 * n
    assert at == len(out)
    return results


def train_on(data: pathlib.Path, folder: pathlib.Path) -> None:
    """Trains a tokenizer.json of 8,192 tokens, as the model's, on the corpus for pre-training."""
    with gzip.open(data / "pretrain" / "corpus.txt.gz", "rt", encoding="utf-8") as file:
        lines = (line.rstrip("\n") for line in itertools.islice(file, 0, None, 8))
        tokenizer = tokenizer_lib.train_tokenizer(lines, 8192)
    assert tokenizer.get_vocab_size() == 8192
    tokenizer.save(str(folder / "tokenizer.json"))
