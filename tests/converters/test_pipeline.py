"""The main job: every kind of task from a CSV file to a board, mistakes, and what it prints."""

import csv
import json
import random
import re
import shlex
import warnings

import numpy as np
import pytest

import converters
from converters.evaluation import board, job
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from tests.support.runs import run_command, run_module, small_rows

THINGS = ("fan", "lamp", "pump", "door", "heater", "gate")
HEADERS = {False: ("text", "label"), True: ("text", "text_pair", "label")}


def label_rows():
    return small_rows()


def pair_rows():
    """Whether two texts name the same thing."""
    rng = random.Random(0)
    pairs = [(rng.choice(THINGS), rng.choice(THINGS)) for _ in range(160)]
    pairs += [(thing, thing) for thing in THINGS * 12]
    return [(f"start the {a}", f"stop the {b}", "same" if a == b else "other") for a, b in pairs]


def score_rows():
    """As many hundreds as the text has words of one kind, below and above 0."""
    rng = random.Random(1)
    rows = []
    for _ in range(200):
        words = rng.choices(("up", "down"), k=rng.randint(1, 4))
        score = 100 * (words.count("up") - words.count("down"))
        rows.append((f"{rng.choice(THINGS)} {' '.join(words)}", f"{score + rng.random():.3f}"))
    return rows


def pair_score_rows():
    """Shared words of two texts, as a score of 0..3."""
    rng = random.Random(2)
    rows = []
    for _ in range(200):
        first = rng.sample(THINGS, 3)
        shared = rng.randint(0, 3)
        second = first[:shared] + rng.sample([t for t in THINGS if t not in first], 3 - shared)
        rows.append((" ".join(first), " ".join(second), f"{shared + rng.random() / 9:.2e}"))
    return rows


KINDS = {
    "label": label_rows,
    "pair": pair_rows,
    "score": score_rows,
    "pair with a score": pair_score_rows,
}
EACH_KIND = [
    kind if kind == "label" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS
]
# As small as it gets and still learns something.
QUICK = (
    "--init=",
    "--train_flags=--preset=test --epochs=8 --learning_rate=0.01 --token_dropout=0",
    "--qat_flags=--epochs=1 --samples=64",
    "--convert_flags=--count=64",
)


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADERS[len(rows[0]) == 3], *rows])
    return path


def run_job(folder, rows, *flags, run=run_command, test=None, **files):
    """Runs the job on rows; its folder has blanks and quotes in its name."""
    folder = folder / "it's my data"
    folder.mkdir(exist_ok=True)
    arguments = [f"--train={write(folder / 'some rows.csv', rows)}"]
    arguments.append(f"--test={write(folder / 'test rows.csv', test or rows[::4])}")
    arguments += [f"--{name}={write(folder / f'{name}.csv', r)}" for name, r in files.items()]
    arguments += [f"--build={folder / 'build'}", "--name=my job", *flags]
    return run("converters.pipeline", *arguments), folder / "build/my job"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs the job of a kind once; returns what it printed and its folder.

    That of labels runs in a process of its own, on a board, and that of pairs with a score on a
    board; the others on this machine.
    """
    done = {}

    def run(kind):
        if kind not in done:
            flags = ["--task=regression"] if "score" in kind else []
            board_rows = {"label": 0, "pair with a score": 20}.get(kind)
            flags += ["--target=host"] if board_rows is None else [f"--device_limit={board_rows}"]
            how = run_module if kind == "label" else run_command
            folder = tmp_path_factory.mktemp("job")
            done[kind] = run_job(folder, KINDS[kind](), *QUICK, *flags, run=how)
        return done[kind]

    return run


@pytest.mark.parametrize("kind", EACH_KIND)
def test_every_kind_of_task_reaches_the_board(finished, kind):
    result, folder = finished(kind)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((folder / job.REPORT).read_text())
    assert report["device_equals_reference"]
    assert f"  page: {folder / 'report.html'}\n" in result.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{report['device_count']} rows were run on {report['target']}" in page
    assert ">Error of each tensor<" in page
    assert report["pair"] == ("pair" in kind)
    assert set(report["metrics"]) == {"fp32", "qat", "tflm", "device"}
    names = ("pearson", "spearman") if "score" in kind else ("accuracy", "macro_f1")
    learnt = {"label": 0.9, "pair": 0.6, "score": 0.8, "pair with a score": 0.3}[kind]
    for figures in report["metrics"].values():
        assert all(learnt < figures[name] <= 1 for name in names), report["metrics"]
    for name in names:
        shown = report["metrics"]["tflm"][name]
        text = f"{shown:.4f}" if "score" in kind else f"{100 * shown:.2f} %"
        assert re.search(rf"int8 \(TFLM, host\).* {re.escape(text)}", result.stdout)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_the_board_prints_the_figures_of_its_logits(finished, kind):
    _, folder = finished(kind)
    report = json.loads((folder / job.REPORT).read_text())
    model = converters.load_model(folder / job.MODEL)
    rows = examples_lib.read_all(folder / "device_rows.csv")
    assert report["device_count"] == len(rows) == report["device_figures"]["count"]
    logits = board.read_logits(folder / "device_logits.bin", len(rows), max(len(model.labels), 1))
    if model.labels:
        targets = np.array([model.labels.index(row.label) for row in rows])
    else:
        targets = np.array([float(row.label) for row in rows])
        error = np.abs(model.dequantize(logits)[:, 0] - targets).mean()
        assert report["device_figures"]["mean_absolute_error"] == pytest.approx(error, abs=2e-3)
    measured = model.metrics(logits, targets)
    for name in ("pearson",) if not model.labels else ("accuracy", "macro_f1"):
        assert report["device_figures"][name] == pytest.approx(measured[name], abs=1e-6)
    for name, value in report["metrics"]["device"].items():
        assert value == pytest.approx(measured[name], abs=1e-9)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_agreement_is_in_the_task_s_unit(finished, kind):
    result, folder = finished(kind)
    figures = json.loads((folder / job.REPORT).read_text())["agreement"]
    assert set(figures) == {"fp32_tflm", "qat_tflm", "tflm_device"}
    for one in figures.values():
        if "score" in kind:
            assert 0.5 < one["pearson"] <= 1
            assert 0 <= one["mean_difference"] <= one["largest_difference"]
        else:
            assert set(one) == {"labels"} and 0.5 < one["labels"] <= 1
    assert ("apart on average" in result.stdout) == ("score" in kind)


@pytest.mark.slow
def test_each_step_can_be_repeated_by_hand(finished):
    result, folder = finished("label")
    lines = re.findall(r"^   (python .*)$", result.stdout, re.MULTILINE)
    modules = [line.split()[2] for line in lines]
    assert modules == [
        "embbert_tf.train",
        "embbert_tf.qat",
        "converters.convert_tflite",
        "converters.evaluate_tflite",
        "converters.report_page",
    ]
    before = (folder / "model/model.tflite").read_bytes()
    for line in lines:
        _, _, module, *arguments = shlex.split(line)
        done = run_command(module, *arguments)
        assert done.returncode == 0, done.stderr
    assert (folder / "model/model.tflite").read_bytes() == before


@pytest.mark.slow
def test_500_labels(tmp_path, eager):
    labels = [f"label {i:03d} {'with a long name ' * (i % 9)}" for i in range(500)]
    rows = [(f"thing {i} of {name[:9]}", name) for i, name in enumerate(labels)]
    short_and_long = [("thing", labels[0]), ("thing 7 " * 10_000, labels[499]), *rows[::10]]
    result, folder = run_job(
        tmp_path,
        rows,
        "--init=",
        "--train_flags=--preset=test --epochs=1 --batch_size=128",
        "--qat_flags=--epochs=1 --samples=64 --batch_size=128",
        "--convert_flags=--count=64",
        "--target=host",
        test=short_and_long,
        valid=rows[5::25],
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((folder / job.REPORT).read_text())
    assert len(report["labels"]) == 500
    assert report["device_count"] == len(short_and_long)
    assert report["device_equals_reference"]


@pytest.mark.slow
def test_it_goes_on_after_a_failed_step(finished, monkeypatch, tmp_path):
    _, folder = finished("label")

    def fail(*_):
        raise board.BoardError("the cable is loose")

    again = [f"--train={folder.parents[1] / 'some rows.csv'}", f"--build={folder.parent}"]
    again += [f"--test={folder.parents[1] / 'test rows.csv'}", "--name=my job", *QUICK]
    (folder / job.REPORT).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(board.Board, "evaluate", fail)
        result = run_command("converters.pipeline", *again)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "pipeline: the cable is loose"
    result = run_command("converters.pipeline", *again)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished already") == 2
    assert (folder / job.REPORT).exists()


BAD = {
    "an unknown label": ({"test": [("what now", "nobody")]}, [], "test rows.csv:2: .*'nobody'"),
    "pairs to test": ({"test": [("a", "b", "on")]}, [], "pairs of texts"),
    "an unknown target": ({}, ["--target=z80"], "no such target"),
    "a graph that is too long": ({}, ["--convert_flags=--max_length=9999"], "9999 is above"),
    "an unknown flag": ({}, ["--qat_flags=--nonsense=1"], "--qat_flags: .*nonsense"),
    "a word that is no flag": ({}, ["--qat_flags=nonsense"], "'nonsense' is no flag"),
    "an open quote": ({}, ["--qat_flags='--epochs=1"], "--qat_flags: No closing quotation"),
    "a flag of the job's": ({}, ["--train_flags=--output=x"], "--output is the job's to set"),
    "a flag for other models": ({}, ["--convert_flags=--model=x.keras"], "--model is the job's"),
    "a value out of bounds": ({}, ["--train_flags=--batch_size=0"], "--train_flags: .*batch_size"),
    "no name": ({}, ["--name="], "give the job a name"),
    "a backbone that is none": ({}, ["--init=nowhere"], "nowhere: no such"),
    "another model": (
        {},
        ["--train_flags=--architecture=bert"],
        "kernels, which run EmbBERT alone",
    ),
    "scores that are words": ({}, ["--task=regression"], "some rows.csv:2: .*not a number"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_found_before_the_training(tmp_path, mistake):
    files, flags, message = BAD[mistake]
    result, folder = run_job(tmp_path, label_rows(), "--target=host", *flags, **files)
    assert result.returncode == 1
    assert re.search(message, result.stderr), result.stderr
    assert "epoch" not in result.stdout
    assert not (folder / job.RUN / "config.json").exists()


def test_scores_taken_for_classes_are_pointed_out(tmp_path):
    path = write(tmp_path / "scores.csv", [("a", "1.5"), ("b", "2.25"), ("c", "0.5")])
    with pytest.warns(errors.EmbBertWarning, match="say --task=regression"):
        job._warn_of_scores(str(path))
    write(path, [("a", "1"), ("b", "2"), ("c", "0")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job._warn_of_scores(str(path))


@pytest.mark.parametrize(
    ("flags", "init"),
    [
        ([], "zoo/backbone"),
        (["--init="], None),
        (["--init=elsewhere"], "elsewhere"),
        (["--train_flags=--preset=tiny"], None),
        (["--train_flags=--architecture=bert"], None),
        (["--train_flags=--init=elsewhere"], "elsewhere"),
        (["--train_flags=--vocab_size=500"], None),
    ],
)
def test_it_starts_from_the_backbone_unless_told_otherwise(monkeypatch, flags, init):
    seen = []
    monkeypatch.setattr(job, "run_job", lambda made: seen.append(made) or stop())

    def stop():
        raise errors.EmbBertError("enough seen")

    run_command("converters.pipeline", "--train=a.csv", "--test=b.csv", *flags)
    given = seen[0].train_options.init
    assert given is None if init is None else given.endswith(init)
    assert any(word.startswith("--init=") for word in seen[0].commands["train"]) == bool(init)


@pytest.mark.slow
class TestRowsOfABoard:
    """Longer than the board's text buffer: what it gets in their place."""

    @pytest.fixture
    def model_of_pairs(self, finished):
        return converters.load_model(finished("pair with a score")[1] / job.MODEL)

    def test_are_shortened_without_a_change_of_ids(self, model_of_pairs):
        row = examples_lib.Example("start the fan " * 9000, "stop the lamp " * 9000, "1.5")
        (kept,) = board.fitting_rows(model_of_pairs, [row], 2048)
        assert len((kept.text + kept.text_pair).encode()) < 2048
        encode = model_of_pairs.encode
        assert encode(kept.text, kept.text_pair) == encode(row.text, row.text_pair)

    def test_stay_as_they_are_where_they_fit(self, model_of_pairs):
        row = examples_lib.Example("start the fan", "größer", "1.5")
        assert board.fitting_rows(model_of_pairs, [row], 2048) == [row]

    def test_are_left_out_where_a_shorter_text_is_another(self, model_of_pairs):
        row = examples_lib.Example("   fan" + " " * 3000 + "lamp", "fan", "1.5")
        assert board.fitting_rows(model_of_pairs, [row], 2048) == [None]


# What the job may print: its own lines, of which each begins so.
OURS = [
    r"$",
    r"== ",
    r"   (python|make) ",
    r"\d+ texts to train on",
    r"(train|qat): epoch \d+/\d+ ",
    r"  (train|qat): epoch \d+: step ",
    r"class +precision",
    r"(on|off|ask) +\d",
    r"test (accuracy|macro_f1) \d",
    r"recipe \w+, \d+ tokens, [\d,]+ bytes$",
    r"accuracy \d",
    r"\d+ rows, accuracy \d",
    r"flash [\d,]+ bytes, RAM [\d,]+ bytes$",
    r" {40,}accuracy +macro F1$",
    r"  (fp32|QAT|int8) \(.*\) +[\d.]+ % +[\d.]+ %$",
    r"  agreement, ",
    r"  board's logits equal to the reference +true$",
    r"  \.tflite +[\d,]+ bytes$",
    r"  TFLM arena, smallest that runs +[\d,]+ bytes$",
    r"  firmware (flash|RAM), (weights|stack) included +[\d,]+ bytes$",
    r"  report: ",
    r"  page: ",
    r"pipeline: warning: ",
]


def test_every_line_of_its_output_is_ours(finished):
    """In a process of its own, where libraries write what they like."""
    result, _ = finished("label")
    lines = (result.stdout + result.stderr).splitlines()
    strange = [line for line in lines if not any(re.match(ours, line) for ours in OURS)]
    assert strange == []
