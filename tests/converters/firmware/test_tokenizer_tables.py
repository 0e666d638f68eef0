"""The tokenizer's tables: what generator and C library refuse, what all of it costs."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from converters.firmware import tokenizer_tables, unicode_probe
from tests.support import tokenizer_host as host
from tests.support.firmware_model import make
from tests.support.runs import run_command

TABLES_TEST = host.PROGRAMS / "tokenizer_tables_test.c"


@pytest.fixture(scope="module")
def content():
    return host.golden()["tokenizer"]


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def tables(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    path = folder / "tables.bin"
    path.write_bytes(tokenizer_tables.build_tables(write(folder / "tokenizer.json", content)))
    return path


def test_description(tables, content):
    description = tokenizer_tables.describe(tables.read_bytes())
    assert description.vocab_size == len(content["model"]["vocab"])
    assert description.total == tables.stat().st_size
    assert sum(description.sections.values()) == description.total - tokenizer_tables.HEADER_BYTES
    assert re.match(r"tokenizer_tables\.py 1, tokenizers \d+\.\d+\.\d+, json", description.made_by)
    assert tuple(map(int, description.unicode_version.split("."))) >= (15, 0, 0)
    with pytest.raises(unicode_probe.TokenizerTableError):
        tokenizer_tables.describe(b"EBTK")


def test_same_tables_every_time(tables, content, tmp_path):
    again = tokenizer_tables.build_tables(write(tmp_path / "tokenizer.json", content))
    assert again == tables.read_bytes()


def changed(content, **model):
    return {**content, "model": {**content["model"], **model}}


def swapped(content):
    merges = list(content["model"]["merges"])
    merges[3], merges[4] = merges[4], merges[3]
    return changed(content, merges=merges)


UNSUPPORTED = {
    "byte fallback": lambda c: changed(c, byte_fallback=True),
    "dropout": lambda c: changed(c, dropout=0.1),
    "a suffix": lambda c: changed(c, end_of_word_suffix="</w>"),
    "another model": lambda c: changed(c, type="WordPiece"),
    "no unknown token": lambda c: changed(c, unk_token=None),
    "merges out of order": swapped,
    "no merges": lambda c: changed(c, merges=[]),
    "no normalizer": lambda c: {**c, "normalizer": None},
    "cased": lambda c: {**c, "normalizer": {**c["normalizer"], "lowercase": False}},
    "another pre-tokenizer": lambda c: {**c, "pre_tokenizer": {"type": "WhitespaceSplit"}},
    "a token that takes blanks": lambda c: {
        **c,
        "added_tokens": [{**c["added_tokens"][0], "lstrip": True}],
    },
    "moved special token": lambda c: changed(
        c, vocab={**c["model"]["vocab"], "[SEP]": 3, "[MASK]": 4}
    ),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_tokenizers_are_refused(what, content, tmp_path):
    path = write(tmp_path / "tokenizer.json", UNSUPPORTED[what](content))
    with pytest.raises(unicode_probe.TokenizerTableError) as error:
        tokenizer_tables.build_tables(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_command_line(content, tmp_path):
    out = tmp_path / "of the tables"
    path = write(tmp_path / "tokenizer.json", UNSUPPORTED["dropout"](content))
    for source, expected in (
        (path, "must not set dropout"),
        (str(tmp_path / "none.json"), "not a readable tokenizer.json"),
    ):
        result = run_command(
            "converters.generate_firmware", f"--tokenizer={source}", f"--output_folder={out}"
        )
        assert result.returncode == 1 and expected in result.stderr
        assert result.stderr.count("\n") == 1
        assert not out.exists()
    path = write(tmp_path / "tokenizer.json", content)
    result = run_command(
        "converters.generate_firmware", f"--tokenizer={path}", f"--output_folder={out}"
    )
    assert result.returncode == 0, result.stderr
    assert (out / "tokenizer_tables.bin").read_bytes() == tokenizer_tables.build_tables(path)
    assert "pairs" in result.stdout and "Unicode" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_damaged_tables(compiler, tables, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    binary = tmp_path / "tables_test"
    sources = [str(host.SOURCE), str(TABLES_TEST)]
    command = [compiler, *host.WARNINGS, "-O2", *host.SANITIZERS, host.INCLUDE]
    subprocess.run([*command, *sources, "-o", str(binary)], check=True)
    done = subprocess.run([binary, tables], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    assert int(re.search(r"(\d+) refused", done.stdout)[1]) > 100


@pytest.mark.parametrize(
    "cpu", ["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
)
def test_compiles_for_cortex_m(cpu, tmp_path):
    compilers = {
        "arm-none-eabi-gcc": [],
        "clang": ["--target=arm-none-eabi", "-isystem", "/usr/lib/arm-none-eabi/include"],
    }
    for compiler, options in compilers.items():
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        command = [
            compiler,
            *options,
            *host.WARNINGS,
            f"-mcpu={cpu}",
            "-mthumb",
            "-O2",
            host.INCLUDE,
        ]
        subprocess.run([*command, "-c", host.SOURCE, "-o", tmp_path / "object.o"], check=True)


def test_budget_on_cortex_m4(data_tokenizer):
    """At the model's vocabulary: flash, RAM and instructions per byte (`make tokenizer_bench`)."""
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not installed")
    done = make("tokenizer_bench", TOKENIZER=data_tokenizer, PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    print(done.stdout[done.stdout.index("   text") :])
    code = int(re.search(r"filename\n +(\d+)", done.stdout)[1])
    numbers = re.search(r"tables +(\d+) bytes; .*tokenizer +(\d+) .*scratch +(\d+)", done.stdout)
    table_bytes, tokenizer_bytes, scratch_bytes = map(int, numbers.groups())
    frames = re.findall(r"(\w+)(?:\.\w+)*\t(\d+)$", done.stdout, re.M)
    stack = sum(int(size) for name, size in frames if name != "embbert_tokenizer_init")
    print(f"flash {code + table_bytes} bytes, RAM {tokenizer_bytes + scratch_bytes + stack} bytes")
    assert code + table_bytes <= 64000
    # The sum of all frames is more than any chain of calls takes.
    assert tokenizer_bytes + scratch_bytes + stack <= 2048
    lines = re.findall(r"^ +(\d+) +\d+ +\d+ +(\d+)  (.*)$", done.stdout, re.M)
    commands = [int(cost) for length, cost, _ in lines if int(length) < 90]
    reviews = [int(cost) for length, cost, _ in lines if int(length) > 1900]
    assert len(commands) == 7 and len(reviews) == 1
    assert max(commands) < 250 and reviews[0] < 250


def test_encode_truncates_pairs_as_hugging_face_does():
    """`embbert_tf.data.tokenizer.encode` against `enable_truncation`, for every length and room."""
    import itertools

    import tokenizers
    from tokenizers import processors

    from embbert_tf.data import tokenizer
    from embbert_tf.model import special_tokens

    letters = "abcdefghijklmnopqrstuvwxyz"
    ours = tokenizer.train_tokenizer([" ".join(letters)] * 3, 60)
    theirs = tokenizers.Tokenizer.from_str(ours.to_str())
    theirs.post_processor = processors.TemplateProcessing(
        single="[CLS] $A",
        pair="[CLS] $A [SEP] $B",
        special_tokens=[("[CLS]", special_tokens.CLS), ("[SEP]", special_tokens.SEP)],
    )
    for first, second, limit in itertools.product(range(1, 11), range(1, 11), range(4, 22)):
        text, pair = " ".join(letters[:first]), " ".join(letters[-second:])
        theirs.enable_truncation(limit, strategy="longest_first")
        assert tokenizer.encode(ours, text, pair, limit) == theirs.encode(text, pair).ids


def test_answers_of_tokenizers_are_kept_where_there_is_a_folder_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert unicode_probe._cache_folder() == str(tmp_path / "embbert-tflm")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert unicode_probe._cache_folder() is None
