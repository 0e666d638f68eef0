"""The application on every target: equal to the NumPy reference, and upset by nothing."""

import csv
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from sklearn import metrics

from embbert_tf.data import examples
from tests.support.firmware_model import FIRMWARE, LABELS, ROOT, SENTENCES, TinyModel, built, make

# Every board with its best kernels, and the portable ones on the host and on one board.
TARGETS = [
    ("host", "portable"),
    pytest.param("mps2-an386", "portable", marks=pytest.mark.slow),
    ("mps2-an386", "dsp"),
    ("mps2-an500", "dsp"),
    ("mps3-an547", "mve"),
    ("cortex-m4-64k", "dsp"),
]
TEXTS = [
    *SENTENCES,
    "a, b",
    '"',
    'two\nlines, "quoted"',
    "CR\r\nLF",
    " \t blanks around \t",
    "trailing\\",
    "e\u0301 combining \u200d joiner \ufeff",
    "word " * 300,
    "x" * 700,
    "\N{GRINNING FACE}" * 50,
]


@pytest.fixture(scope="module")
def cautious(tmp_path_factory):
    return TinyModel(tmp_path_factory.mktemp("cautious"), threshold=0.8)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return TinyModel(tmp_path_factory.mktemp("scores"), regression=True, seed=5)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    names = [f"{i:03d} {'größer ' * (i % 30)}label" for i in range(500)]
    return TinyModel(tmp_path_factory.mktemp("many"), names=names, seed=3)


def write_csv(path, rows, columns=("text", "label"), **options):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **options)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def figures(result) -> dict:
    """The line of JSON in what a command printed."""
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))


@pytest.mark.parametrize(("target", "implementation"), TARGETS)
def test_every_logit_equals_the_reference(tiny, tmp_path, target, implementation):
    rng = np.random.default_rng(3)
    rows = [(text, LABELS[rng.integers(len(LABELS))]) for text in TEXTS]
    path = write_csv(tmp_path / "rows.csv", rows)
    result = make(
        "eval",
        TARGET=target,
        IMPLEMENTATION=implementation,
        IMAGE=tiny.path,
        CSV=path,
        LOGITS=tmp_path / "logits.bin",
    )
    report = figures(result)
    assert report["implementation"] == implementation
    logits = np.fromfile(tmp_path / "logits.bin", np.int8).reshape(-1, len(LABELS))
    expected = np.stack([tiny.logits(example.text) for example in examples.read_examples(path)])
    np.testing.assert_array_equal(logits, expected)
    right = [tiny.answer(text)[0] == label for text, label in rows]
    assert report["count"] == len(rows)
    assert report["correct"] == sum(right)
    assert report["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    targets, answers = [label for _, label in rows], [tiny.answer(text)[0] for text, _ in rows]
    macro_f1 = metrics.f1_score(targets, answers, labels=LABELS, average="macro", zero_division=0)
    assert report["macro_f1"] == pytest.approx(macro_f1, abs=1e-6)
    assert report["tokens"] == sum(len(tiny.ids(text)) for text in TEXTS)
    assert (report["instructions"] > 0) == (target != "host")


@pytest.mark.parametrize("target", ["host", "mps2-an386", "mps3-an547"])
def test_pairs_equal_the_reference(pairs, tmp_path, target):
    rows = [
        (a, LABELS[i % 4], b) for i, (a, b) in enumerate(zip(TEXTS, reversed(TEXTS), strict=True))
    ]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "text_pair"))
    logits_path = tmp_path / "logits.bin"
    figures(make("eval", TARGET=target, IMAGE=pairs.path, CSV=path, LOGITS=logits_path))
    expected = np.stack([pairs.logits(text, pair) for text, _, pair in rows])
    logits = np.fromfile(logits_path, np.int8).reshape(-1, len(LABELS))
    np.testing.assert_array_equal(logits, expected)
    label, confidence = pairs.answer("turn on", "the light")
    result = make("run", TARGET=target, IMAGE=pairs.path, TEXT="turn on |||the light ")
    assert result.stdout.splitlines()[0] == f"{label} {confidence:.2f} %"


@pytest.mark.parametrize(
    ("target", "scale"), [("mps2-an386", 0.02), ("host", 0.02), ("host", 40.0)]
)
@pytest.mark.parametrize("pair", [False, True])
def test_scores_are_measured(tmp_path, target, scale, pair):
    """Scores on any scale, in every spelling of a number."""
    model = TinyModel(tmp_path, regression=True, pair=pair, logits_scale=scale, seed=5)
    answers = [model.score(text, text if pair else None) for text in TEXTS]
    assert np.ptp(answers) > 50 * scale
    scores = np.random.default_rng(1).normal(answers, 30 * scale)
    spellings = ["{:.3f}", "{:+.6e}", "{:.0f}.", "{:E}", "{!r}"]
    labels = [spellings[i % 5].format(float(score)) for i, score in enumerate(scores)]
    rows = [
        (text, label, *([text] if pair else [])) for text, label in zip(TEXTS, labels, strict=True)
    ]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "text_pair")[: 2 + pair])
    logits_path = tmp_path / "logits.bin"
    report = figures(make("eval", TARGET=target, IMAGE=model.path, CSV=path, LOGITS=logits_path))
    logits = np.fromfile(logits_path, np.int8)
    expected = [model.logits(text, text if pair else None)[0] for text in TEXTS]
    np.testing.assert_array_equal(logits, expected)
    targets = np.array(labels, float)
    assert report["pearson"] == pytest.approx(np.corrcoef(logits, targets)[0, 1], abs=1e-6)
    error = np.abs(np.array(answers) - targets).mean()
    assert report["mean_absolute_error"] == pytest.approx(error, abs=2e-3, rel=1e-5)
    text = f"{TEXTS[0]} ||| {TEXTS[0]}" if pair else TEXTS[0]
    result = make("run", TARGET=target, IMAGE=model.path, TEXT=text)
    name, score = result.stdout.splitlines()[0].split()
    assert name == "score"
    assert float(score) == pytest.approx(answers[0], abs=1e-3, rel=1e-5)


@pytest.mark.parametrize("label", ["1,5", "1e", "e3", "", "--1", "1.2.3", "0x10", "nan", "1e999"])
def test_a_label_that_is_no_number_is_explained(scores, tmp_path, label):
    path = write_csv(tmp_path / "rows.csv", [("turn on", "1"), ("turn off", label)])
    result = make("eval", TARGET="host", IMAGE=scores.path, CSV=path)
    assert result.returncode != 0
    assert f"{path}:3: " in result.stdout
    assert ("empty" if label == "" else "not a number") in result.stdout


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
def test_500_labels_of_one_word_and_of_10_000(many, tmp_path, target):
    """Labels with names longer than any buffer of a few dozen bytes."""
    texts = ["lamp", "turn on the light " * 2500, *SENTENCES]
    rows = [(text, many.labels[-1 - 40 * i]) for i, text in enumerate(texts)]
    path = write_csv(tmp_path / "rows.csv", rows)
    logits_path = tmp_path / "logits.bin"
    report = figures(make("eval", TARGET=target, IMAGE=many.path, CSV=path, LOGITS=logits_path))
    assert report["count"] == len(texts)
    expected = np.stack([many.logits(text) for text in texts])
    np.testing.assert_array_equal(np.fromfile(logits_path, np.int8).reshape(-1, 500), expected)
    answers = [many.answer(text)[0] for text in texts]
    macro_f1 = metrics.f1_score(
        [label for _, label in rows], answers, labels=many.labels, average="macro", zero_division=0
    )
    assert report["macro_f1"] == pytest.approx(macro_f1, abs=1e-6)
    label, confidence = many.answer(texts[2])
    result = make("run", TARGET=target, IMAGE=many.path, TEXT=texts[2])
    assert result.stdout.splitlines()[0] == f"{label} {confidence:.2f} %"
    listed = make("info", TARGET=target, IMAGE=many.path).stdout
    assert ", ".join(many.labels) in listed


@pytest.mark.parametrize("max_length", [31, 32])
def test_pairs_of_10_000_words_count_when_their_ids_do_not_change(tmp_path, max_length):
    model = TinyModel(tmp_path, pair=True, max_length=max_length, seed=2)
    long, short = "turn on the light " * 2500, "volume up"
    rows = [(long, LABELS[0], short), (short, LABELS[1], long)]
    if max_length % 2 == 0:  # else the longer text keeps one token more, and both are cut
        rows.append((long, LABELS[2], "switch the lamp off, please " * 2000))
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "text_pair"))
    logits_path = tmp_path / "logits.bin"
    figures(make("eval", TARGET="host", IMAGE=model.path, CSV=path, LOGITS=logits_path))
    expected = np.stack([model.logits(text, pair) for text, _, pair in rows])
    logits = np.fromfile(logits_path, np.int8).reshape(-1, len(LABELS))
    np.testing.assert_array_equal(logits, expected)
    write_csv(path, [(long, LABELS[0], long + "off")], ("text", "label", "text_pair"))
    result = make("eval", TARGET="host", IMAGE=model.path, CSV=path)
    assert (result.returncode == 0) == (max_length % 2 == 0)
    assert ("longer than this board's text buffer" in result.stdout) == (max_length % 2 != 0)


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
@pytest.mark.parametrize("text", ["turn on the kitchen light", 'a, "b",, $x `y` \\ größer 日本'])
def test_run_prints_label_confidence_and_instructions(tiny, target, text):
    result = make("run", TARGET=target, IMAGE=tiny.path, TEXT=text)
    assert result.returncode == 0, result.stdout + result.stderr
    label, confidence = tiny.answer(text)
    first, second = result.stdout.splitlines()
    assert first == f"{label} {confidence:.2f} %"
    assert second.startswith(f"tokens {len(tiny.ids(text))}")
    assert bool(re.search(r", instructions [\d,]+$", second)) == (target != "host")


def test_instructions_are_the_same_on_every_run(tiny):
    runs = {
        make("run", TARGET="mps2-an386", IMAGE=tiny.path, TEXT="volume up").stdout for _ in range(3)
    }
    assert len(runs) == 1


def test_below_the_threshold_the_answer_is_unsure(cautious):
    answers = {text: cautious.answer(text) for text in SENTENCES}
    sure = {text for text, (_, confidence) in answers.items() if confidence >= 80}
    assert 0 < len(sure) < len(SENTENCES)
    for text, (label, confidence) in answers.items():
        result = make("run", TARGET="host", IMAGE=cautious.path, TEXT=text)
        expected = f"{label} {confidence:.2f} %"
        if text not in sure:
            expected = "unsure, perhaps " + expected
        assert result.stdout.splitlines()[0] == expected


def test_tokenize_prints_a_line_of_ids_for_a_line_of_text(tiny, tmp_path):
    lines = [text.replace("\n", " ").replace("\r", " ") for text in TEXTS] + [""]
    path = tmp_path / "lines.txt"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\x00\n")
    for target in ("host", "mps2-an386", "cortex-m4-64k"):
        result = make("tokenize", TARGET=target, IMAGE=tiny.path, FILE=path)
        assert result.returncode == 0, result.stdout + result.stderr
        ids = [[int(number) for number in line.split()] for line in result.stdout.splitlines()]
        assert ids == [tiny.ids(line) for line in [*lines, "\ufffd\0"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected the header text,label"),
        ("words,label\na,b\n", "expected the header text,label"),
        ("text,label\n", "no rows"),
        ("text,label\na,nonsense\n", ":2: the label is not among"),
        ("text,label\na,light on\n\nb\n", ":4: another number of fields"),
        ("text,label\n,light on\n", ":2: an empty text or label"),
        ('text,label\n"a"b,light on\n', ":2: not valid CSV"),
        ('text,label\n"a,light on\n', "not valid CSV"),
        ("text,label\n" + "x" * 70000 + " ,light on\n", ":2: the text is longer"),
    ],
)
def test_unusable_csv_is_explained(tiny, tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    result = make("eval", TARGET="host", IMAGE=tiny.path, CSV=path)
    assert result.returncode != 0
    assert message in result.stdout
    assert result.stdout.startswith(f"embbert: {path}")
    assert result.stdout.count("\n") == 1


def test_text_longer_than_the_buffer_counts_when_its_ids_do_not_change(tiny, tmp_path):
    path = write_csv(tmp_path / "rows.csv", [("word " * 2000, LABELS[0])])
    logits_path = tmp_path / "logits.bin"
    figures(make("eval", TARGET="cortex-m4-64k", IMAGE=tiny.path, CSV=path, LOGITS=logits_path))
    expected = tiny.logits("word " * 2000)
    np.testing.assert_array_equal(np.fromfile(logits_path, np.int8), expected)


def test_compressed_csv_is_read(tiny, tmp_path):
    path = write_csv(tmp_path / "rows.csv", [("turn on", LABELS[0])])
    subprocess.run(["gzip", path], check=True)
    assert figures(make("eval", IMAGE=tiny.path, CSV=f"{path}.gz"))["count"] == 1


@pytest.mark.parametrize(
    ("variables", "goal", "message"),
    [
        ({"TEXT": "  "}, "run", "the text is empty"),
        ({"CSV": "nowhere.csv"}, "eval", "nowhere.csv: no such file"),
        ({"FILE": "nowhere.txt"}, "tokenize", "nowhere.txt: no such file"),
        ({"TARGET": "z80"}, "run", "no such target"),
        ({"TARGET": "mps2-an386", "IMPLEMENTATION": "mve"}, "run", "has no instructions"),
        ({"TARGET": "cortex-m4-64k", "TEXT": "x" * 3000}, "run", "longer than this board's"),
        ({}, "bench", "nothing counts instructions"),
    ],
)
def test_wrong_use_is_explained(tiny, variables, goal, message):
    result = make(goal, IMAGE=tiny.path, **variables)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr


def test_missing_model_is_explained():
    result = make("run", TEXT="x")
    assert result.returncode != 0
    assert "MODEL=<folder" in result.stderr


@pytest.mark.slow
def test_paths_may_hold_blanks(tiny, tmp_path):
    """The model's, and those of every file that is read or written, on the host and on a board."""
    folder = tmp_path / "it's my job" / "a model"
    shutil.copytree(ROOT / "zoo/snips", folder)
    image = tmp_path / "it's my job" / "tiny $1.bin"
    image.write_bytes(tiny.image)
    answers = {
        make("run", TARGET="host", MODEL=path, TEXT="play some quiet jazz").stdout
        for path in (folder, "zoo/snips")
    }
    assert len(answers) == 1 and answers.pop().startswith("PlayMusic ")
    rows = write_csv(folder / "some rows.csv", [(text, LABELS[0]) for text in SENTENCES])
    lines = folder / "some lines.txt"
    lines.write_text("turn on the light\n")
    logits = folder / "the logits.bin"
    for target in ("host", "mps2-an386"):
        figures(make("eval", TARGET=target, IMAGE=image, CSV=rows, LOGITS=logits))
        expected = np.stack([tiny.logits(text) for text in SENTENCES])
        np.testing.assert_array_equal(
            np.fromfile(logits, np.int8).reshape(-1, len(LABELS)), expected
        )
        logits.unlink()
        result = make("tokenize", TARGET=target, IMAGE=image, FILE=lines)
        assert [int(word) for word in result.stdout.split()] == tiny.ids("turn on the light")
    sizes = folder / "the sizes.json"
    figures(make("size", TARGET="mps2-an386", IMAGE=image, JSON=sizes))
    assert json.loads(sizes.read_text())["target"] == "mps2-an386"


@pytest.mark.slow
def test_a_changed_model_is_built_anew(tmp_path):
    folder = tmp_path / "a model"
    shutil.copytree(ROOT / "zoo/snips", folder)
    before = make("run", TARGET="host", MODEL=folder, TEXT="play some quiet jazz").stdout
    assert before.startswith("PlayMusic ")
    labels = (folder / "labels.txt").read_text()
    (folder / "labels.txt").write_text(labels.replace("PlayMusic", "Other"))
    after = make("run", TARGET="host", MODEL=folder, TEXT="play some quiet jazz").stdout
    assert after == before.replace("PlayMusic", "Other")


def test_library_needs_nothing_else(tiny, tmp_path):
    """A product's makefile with a copy of embbert/ alone, in a folder of its own."""
    shutil.copytree(FIRMWARE / "embbert", tmp_path / "third_party/embbert")
    (tmp_path / "main.c").write_text(PRODUCT)
    (tmp_path / "Makefile").write_text(
        "include third_party/embbert/embbert.mk\n"
        "program: main.c $(EMBBERT_SOURCES)\n"
        "\tgcc -std=c11 -O2 -Wall -Wextra -Werror $(EMBBERT_INCLUDES) -o $@ $^\n"
    )
    subprocess.run(["make", "-s", "-C", tmp_path, "program"], check=True)
    result = subprocess.run(
        [tmp_path / "program", tiny.path, SENTENCES[0]], capture_output=True, text=True, timeout=900
    )
    label, confidence = tiny.answer(SENTENCES[0])
    assert result.stdout == f"{label} {confidence:.2f}\n"


# A program around the library: image and text in, label and confidence out.
PRODUCT = r"""
#include <stdio.h>
#include <string.h>

#include "embbert.h"

int main(int argc, char** argv) {
  static _Alignas(16) unsigned char image[1 << 20];
  static _Alignas(8) unsigned char memory[1 << 20];
  static embbert_engine_t engine;
  FILE* file = argc == 3 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL) return 2;
  const size_t size = fread(image, 1, sizeof(image), file);
  fclose(file);
  int status = embbert_engine_open(&engine, image, size, memory, sizeof(memory), NULL);
  embbert_result_t result;
  if (status == kEmbbertOk) {
    status = embbert_engine_classify(&engine, argv[2], strlen(argv[2]), NULL, 0, &result);
  }
  if (status != kEmbbertOk) return puts(embbert_engine_message(status)), 1;
  printf("%s %u.%02u\n", result.name, (unsigned)result.confidence / 100,
         (unsigned)result.confidence % 100);
  return 0;
}
"""


@pytest.mark.slow
def test_sanitized_host_gives_the_reference_logits(tiny, tmp_path):
    path = write_csv(tmp_path / "rows.csv", [(text, LABELS[0]) for text in TEXTS])
    logits_path = tmp_path / "logits.bin"
    figures(make("eval", SANITIZE="1", IMAGE=tiny.path, CSV=path, LOGITS=logits_path))
    logits = np.fromfile(logits_path, np.int8).reshape(-1, len(LABELS))
    np.testing.assert_array_equal(logits, np.stack([tiny.logits(text) for text in TEXTS]))


def test_bench_prints_a_table_and_lines_of_json(tiny):
    first = make("bench", TARGET="mps2-an386", IMAGE=tiny.path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert make("bench", TARGET="mps2-an386", IMAGE=tiny.path).stdout == first.stdout
    lines = [json.loads(line) for line in first.stdout.splitlines() if line.startswith("{")]
    whole = {line["n"]: line for line in lines if "n" in line and "step" not in line}
    assert sorted(whole) == [8, 12, 16, 32]
    for n, line in whole.items():
        assert line["target"] == "mps2-an386"
        assert line["implementation"] == "dsp"
        # embed, one layer of n rows, one of a single row, head: E = 1, D = 16, R = 4, K = 4.
        layer = 3 * 16 * 16 + 2 * n * 16
        assert line["macs"] == 2 * n * 4 * 16 + n * (layer + 4 * 16) + layer + 16 + 4 * 16
        steps = [s["instructions"] for s in lines if s.get("n") == n and "step" in s]
        assert len(steps) == 9
        assert 0.8 * line["instructions"] < sum(steps) < 1.5 * line["instructions"]
    texts = {line["text"]: line for line in lines if "text" in line}
    assert sorted(texts) == ["command", "review"]
    # The same of chosen numbers of tokens, and a number that the model does not take.
    chosen = make("bench", TARGET="mps2-an386", IMAGE=tiny.path, TOKENS="1 12 32").stdout
    lines = [json.loads(line) for line in chosen.splitlines()]
    costs = {line["n"]: line["instructions"] for line in lines if "n" in line}
    assert sorted(costs) == [1, 12, 32]
    assert (costs[12], costs[32]) == (whole[12]["instructions"], whole[32]["instructions"])
    for word in ("33", "0", "twelve", "4294967298"):
        refused = make("bench", TARGET="mps2-an386", IMAGE=tiny.path, TOKENS=word)
        assert refused.returncode != 0
        assert "bench: TOKENS are numbers up to the model's length" in refused.stdout


def test_size_adds_up(tiny, tmp_path):
    result = make("size", TARGET="cortex-m4-64k", IMAGE=tiny.path, JSON=tmp_path / "size.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "size.json").read_text())
    tool = subprocess.run(
        ["arm-none-eabi-size", "-A", built(tiny, "cortex-m4-64k")],
        capture_output=True,
        text=True,
        check=True,
    )
    sections = {
        fields[0]: int(fields[1])
        for fields in map(str.split, tool.stdout.splitlines())
        if len(fields) == 3 and fields[0].startswith(".")
    }
    assert report["flash_bytes"] == sections[".text"] + sections[".model"] + sections[".data"]
    assert report["ram_bytes"] == sections[".data"] + sections[".bss"] + sections[".stack"]
    assert sum(report["flash"].values()) == report["flash_bytes"]
    assert sum(report["ram"].values()) == report["ram_bytes"]
    assert report["flash"]["weights"] + report["flash"]["tokenizer tables"] == pytest.approx(
        len(tiny.image), abs=16
    )
    assert all(report["flash"][part] > 0 for part in ("kernels", "tokenizer", "application"))
    assert 0 < report["stack_measured"] <= 4096
    # The computed depth is of the worst path; exception frames and the C library come on top.
    assert report["stack_measured"] <= report["stack_computed"] + 256


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ccache"), reason="ccache missing; apt-get install ccache")
def test_a_compiler_cache_leaves_the_depth_of_the_stack(tiny, tmp_path, monkeypatch):
    (tmp_path / "arm-none-eabi-gcc").symlink_to(shutil.which("ccache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "cache"))
    shutil.rmtree(FIRMWARE / "build/cached", ignore_errors=True)
    depths = []
    for number in range(2):
        report = tmp_path / f"{number}.json"
        folder = f"build/cached/{number}"
        result = make(
            "size", TARGET="mps2-an386", IMAGE=tiny.path, JSON=report, BUILD_FOLDER=folder
        )
        assert result.returncode == 0, result.stdout + result.stderr
        depths.append(json.loads(report.read_text())["stack_computed"])
    assert depths[0] == depths[1] > 500


def test_whole_application_of_the_reference_model_fits_64_kb(tmp_path):
    """The sizes of the `embbert` preset at S=128; the linker script has 64 kB of RAM, no more."""
    model = TinyModel(tmp_path, d=128, r=16, k=32, blocks=4, max_length=128)
    result = make("size", TARGET="cortex-m4-64k", IMAGE=model.path, JSON=tmp_path / "size.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "size.json").read_text())
    print(result.stdout)
    assert report["ram_bytes"] <= 65536
    # Of it 11 kB are kernels, which trade size for instructions.
    assert report["code_bytes"] <= 41 * 1024
    text = "turn on the kitchen light"
    result = make("run", TARGET="cortex-m4-64k", IMAGE=model.path, TEXT=text)
    label, confidence = model.answer(text)
    assert result.stdout.splitlines()[0] == f"{label} {confidence:.2f} %"
