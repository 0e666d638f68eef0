"""What fills and measures `zoo/`: zoo.add, zoo.table, benchmarks.accuracy."""

import json
import shutil

import numpy as np
import pytest

from converters.evaluation import evaluation
from converters.tflite import model_folder
from converters.tflm import runner
from converters.zoo import layout, seed_results
from embbert_tf.data import files
from embbert_tf.storage import packed_weights, run_folder
from tests.support.runs import run_command, small_rows


@pytest.fixture(scope="module")
def made(tiny_run, small_csv, tmp_path_factory):
    """(the run, a zoo with the folder `snips` made of it, what the command printed)."""
    root = tmp_path_factory.mktemp("zoo")
    done = run_command(
        "converters.zoo.add", f"--run={tiny_run}", f"--calibration={small_csv}",
        f"--output={root / 'snips'}", "--note=Made by a test.",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tiny_run, root, done.stdout


@pytest.mark.slow
def test_folder_is_run_and_model_folder(made):
    run_path, root, _ = made
    path = root / "snips"
    run, packed = run_folder.load_run(run_path), run_folder.load_run(path)
    assert packed.labels == run.labels
    assert packed.ranges == run.ranges
    folder = model_folder.load(path)
    texts = [text for text, _ in small_rows()]
    assert [folder.encode(t) for t in texts] == [
        ids[: folder.max_length] for ids in (folder.encode(t) for t in texts)
    ]
    assert folder.labels == run.labels
    assert [p.name for p in root.iterdir()] == ["snips"], "something temporary is left"
    assert not (path / run_folder.FP32).exists() and not (path / run_folder.QAT).exists()
    assert (path / packed_weights.PACKED).exists()
    # The compact tokenizer is the same tokenizer.
    assert files.read_json(path / "tokenizer.json") == files.read_json(run_path / "tokenizer.json")


@pytest.mark.slow
def test_record_and_card_say_where_weights_come_from(made):
    _, root, printed = made
    record = layout.read_record(root / "snips")
    folder = model_folder.load(root / "snips")
    assert record["origin"]["training"]["preset"] == "test"
    assert record["origin"]["qat"]["epochs"] == 2
    assert record["covered"] >= 0.995
    assert record["max_length"] == folder.max_length
    assert record["sizes"]["file"] == len(folder.tflite)
    assert evaluation.check_logits(folder, record["checks"]["texts"]) == record["checks"]["logits"]
    text = (root / "snips" / layout.CARD).read_text()
    assert "Made by a test." in text and "--preset=test" in text and "seed 0" in text
    assert text.count("```") == 2
    assert "validation qat accuracy" in printed and f"S={folder.max_length}" in printed


@pytest.mark.slow
def test_card_has_the_flags_of_files_that_were_learnt_from(made, small_csv, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(made[0], path)
    settings = files.read_json(path / "qat.json")
    settings["qat"] |= {"unlabelled_sha256": ["0" * 64, "1" * 64], "keep": "last"}
    settings["qat"] |= {"steps": "learnt", "consistency": 0.0}  # Of a run from before they went.
    files.write_json(path / "qat.json", settings)
    settings = run_folder.read_settings(path)
    settings["training"] |= {"keep": "last", "init_sha256": "2" * 64}  # Of a run, not of zoo/.
    files.write_json(path / run_folder.CONFIG, settings)
    done = run_command(
        "converters.zoo.add", f"--run={path}", f"--calibration={small_csv}",
        f"--output={tmp_path / 'zoo' / 'snips'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "zoo" / "snips" / layout.CARD).read_text()
    assert "--unlabelled=UNLABELLED,UNLABELLED" in text.split()
    assert text.split().count("--keep=last") == 2
    assert "no epoch was chosen on" in text
    assert "--init=INIT" in text.split() and f"weights with SHA-256 `{'2' * 16}…`" in text
    assert "sha256" not in text
    assert "--steps" not in text and "--consistency" not in text


@pytest.mark.slow
def test_folder_is_replaced_whole_or_not_at_all(made, small_csv, tmp_path):
    run_path, root, _ = made
    too_large = tmp_path / "run"
    shutil.copytree(run_path, too_large)
    metrics = files.read_json(too_large / run_folder.METRICS)
    files.write_json(too_large / run_folder.METRICS, metrics | {"ballast": "x" * layout.MAX_BYTES})
    before = {p.name: p.read_bytes() for p in (root / "snips").iterdir()}
    done = run_command(
        "converters.zoo.add", f"--run={too_large}", f"--calibration={small_csv}",
        f"--output={root / 'snips'}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "the zoo takes at most 2,000,000" in done.stderr
    assert {p.name: p.read_bytes() for p in (root / "snips").iterdir()} == before
    assert [p.name for p in root.iterdir()] == ["snips"]


@pytest.mark.slow
def test_add_refuses(made, small_csv, tmp_path):
    run_path, _, _ = made
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    plain = tmp_path / "plain"
    shutil.copytree(run_path, plain)
    (plain / run_folder.RANGES).unlink()
    for run, output, message in (
        (run_path, other, "not empty, and no folder of the zoo"),
        (plain, tmp_path / "new", "python -m embbert_tf.qat"),
        (tmp_path / "nothing", tmp_path / "new", "no such run folder"),
    ):
        done = run_command(
            "converters.zoo.add", f"--run={run}", f"--calibration={small_csv}",
            f"--output={output}",
        )  # fmt: skip
        assert done.returncode == 1
        assert message in done.stderr
    assert (other / "precious.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_backbone_keeps_its_weights_file(tmp_path):
    from embbert_tf.data import tokenizer
    from embbert_tf.model import config
    from embbert_tf.storage import backbone_folder

    tokenizer.train_tokenizer(["one two three"] * 3, 60).save(str(tmp_path / "t.json"))
    model = untrained_backbone(config.PRESETS["test"])
    backbone_folder.save_backbone(tmp_path / "made", model, tmp_path / "t.json", {"here": 1})
    done = run_command(
        "converters.zoo.add", f"--run={tmp_path / 'made'}", f"--output={tmp_path / 'backbone'}"
    )
    assert done.returncode == 0, done.stderr
    for name in (backbone_folder.BACKBONE, run_folder.CONFIG):
        left, right = (tmp_path / folder / name for folder in ("made", "backbone"))
        assert left.read_bytes() == right.read_bytes()
    found = backbone_folder.load_backbone(tmp_path / "backbone")
    assert found.tokenizer.get_vocab() == tokenizer.load_tokenizer(tmp_path / "t.json").get_vocab()


def untrained_backbone(sizes):
    from embbert_tf.model import backbone

    model = backbone.EmbBertBackbone(sizes)
    model(np.full((1, 2), 2, np.int32))
    return model


def test_constants_beside_the_table_are_those_that_the_table_shows():
    lines = (layout.ROOT / "README.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    places = [rows[0].index(name) for name in ("commonest answer", "bag of words")]
    found = {}
    end = next(number for number, row in enumerate(rows) if number and row[0] == rows[0][0])
    for row in rows[2:end]:
        for place in places:
            found.setdefault((row[0], place), []).extend(filter(None, [row[place]]))
    for name, task in layout.TASKS.items():
        for place, figures in zip(places, (task.commonest, task.bag_of_words), strict=True):
            assert len(figures) in (0, len(task.metrics))
            if (layout.ROOT / name).is_dir():
                assert found[name, place] == [f"{figure:.2f}" for figure in figures], name
    assert sum(len(figures) for figures in found.values()) == 8


@pytest.mark.slow
def test_table_comes_from_the_files(made, small_csv, tmp_path):
    _, root, _ = made
    (tmp_path / "data" / "snips").mkdir(parents=True)
    shutil.copyfile(small_csv, tmp_path / "data" / "snips" / "test.csv")
    markdown = tmp_path / "README.md"
    marks = "<!-- table: python -m converters.zoo.table -->\nold\n<!-- end of table -->\nfoot\n"
    markdown.write_text("head\n" + marks)
    arguments = [
        "converters.zoo.table", f"--zoo={root}", f"--data={tmp_path / 'data'}",
        f"--json={tmp_path / 'table.jsonl'}", f"--markdown={markdown}", "--workers=1",
    ]  # fmt: skip
    done = run_command(*arguments, "--limit=100")
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    folder = model_folder.load(root / "snips")
    assert (row["task"], row["metric"], row["count"]) == ("snips", "accuracy", 100)
    assert row["published_fp32"] == 97.7
    assert row["file_bytes"] == len(folder.tflite)
    assert not row["chosen_on_reported_rows"]
    assert min(row["fp32"], row["qat"], row["int8"]) > 0.9
    text = markdown.read_text()
    assert text.startswith("head\n<!-- table") and text.endswith("-->\nfoot\n")
    assert "old" not in text
    line = next(line for line in text.splitlines() if line.startswith("| snips |"))
    assert "test, 100 drawn" in line and f"| {100 * row['int8']:.2f} | 97.7 | 97.9 |" in line
    markdown.write_text("no marks")
    done = run_command(*arguments, "--limit=8")
    assert done.returncode == 1 and "needs one line '<!-- table" in done.stderr
    done = run_command("converters.zoo.table", f"--zoo={tmp_path}", f"--data={tmp_path}")
    assert done.returncode == 1 and "no model of any task" in done.stderr


def test_rows_of_other_tasks_are_kept_while_their_model_is_the_same(tmp_path, capsys):
    for task in ("snips", "emotion", "imdb"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "model.tflite").write_bytes(task.encode())
    same = files.sha256(tmp_path / "snips" / "model.tflite")
    rows = [
        {"task": "snips", "tflite_sha256": same, "drawn": False},
        {"task": "emotion", "tflite_sha256": "of another model", "drawn": False},
        {"task": "imdb", "tflite_sha256": "of another model, measured next", "drawn": False},
        {"task": "sst2", "tflite_sha256": "of a model that is gone", "drawn": False},
    ]
    path, others = tmp_path / "table.jsonl", {"snips", "emotion", "sst2"}
    assert layout.kept_rows(str(path), tmp_path, others) == {}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert layout.kept_rows(str(path), tmp_path, others) == {"snips": rows[:1]}
    out = capsys.readouterr().out
    assert "emotion has another model now" in out and "imdb" not in out
    path.write_text('{"task": "snips"}\n')
    with pytest.raises(layout.ZooError, match=r"table.jsonl:1: .*delete the file"):
        layout.kept_rows(str(path), tmp_path, others)


@pytest.mark.slow
def test_benchmark_measures_every_form(made, small_csv, tmp_path):
    run_path, _, _ = made
    for seed in (0, 1):
        shutil.copytree(run_path, tmp_path / f"run-{seed}")
    done = run_command(
        "converters.benchmarks.accuracy", f"--runs={tmp_path}/run-*", f"--test={small_csv}",
        f"--calibration={small_csv}", "--task=snips", f"--json={tmp_path / 'seeds.json'}",
        "--limit=60", "--max_length=16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    entry = seed_results.read(tmp_path / "seeds.json")["snips"]
    assert [run["run"] for run in entry["runs"]] == ["run-0", "run-1"]
    one, other = entry["runs"]
    assert {**one, "run": ""} == {**other, "run": ""}, "equal runs, equal figures"
    assert set(seed_results.VARIANTS) < set(one)
    for variant in seed_results.VARIANTS:
        # The rival may be as poor as it is.
        assert one[variant]["accuracy"] > (0 if variant == "plain" else 0.9), variant
    assert one["alike"]["fused"] > 0.9 and one["alike"]["fp32"] > 0.9
    assert "| snips | train.csv, 60 drawn | accuracy | 2 | 16 |" in done.stdout


def test_benchmark_refuses(small_csv, tmp_path):
    arguments = [f"--test={small_csv}", f"--calibration={small_csv}"]
    done = run_command("converters.benchmarks.accuracy", f"--runs={tmp_path}/no-*", *arguments)
    assert done.returncode == 1 and "no such folder" in done.stderr
    done = run_command("converters.benchmarks.accuracy", "--runs=x", "--variants=int7", *arguments)
    assert done.returncode != 0 and "unknown int7" in done.stderr + done.stdout


def entry_of(*accuracies):
    runs = [
        {"run": f"r{i}", "seed": i, "fp32": {"accuracy": 0.9}, "int8": {"accuracy": a}}
        for i, a in enumerate(accuracies)
    ]
    return {
        "test": "t.csv", "count": 9, "drawn": False, "max_length": 8, "metrics": ["accuracy"],
        "runs": runs,
    }  # fmt: skip


def test_medians_and_spread():
    entry = entry_of(0.5, 0.9, 0.8)
    assert (
        seed_results.cell(seed_results.values(entry, "int8", "accuracy")) == "80.00 [50.00..90.00]"
    )
    found = seed_results.values(entry, "loss", "accuracy")
    assert seed_results.cell(found, signed=True) == "-10.00 [-40.00..+0.00]"
    assert seed_results.values(entry, "plain", "accuracy") is None
    assert seed_results.cell(None) == ""
    line = seed_results.table({"snips": entry})[2]
    assert line.startswith(
        "| snips | t.csv, 9 | accuracy | 3 | 8 | 90.00 [90.00..90.00] |  | 80.00"
    )


def test_results_of_other_tasks_are_kept(tmp_path):
    path = tmp_path / "seeds.json"
    seed_results.update(path, "snips", entry_of(0.5))
    seed_results.update(path, "cola", entry_of(0.6))
    seed_results.update(path, seed_results.name_of("snips", "qat"), entry_of(0.7))
    seed_results.update(path, seed_results.name_of("snips", "qat16"), entry_of(0.8))
    results = seed_results.read(path)
    assert list(results) == ["cola", "snips", "snips, qat16"]
    assert results["snips"]["runs"][0]["int8"]["accuracy"] == 0.7
    path.write_text('{"snips": {"test": "t.csv"}}')
    with pytest.raises(seed_results.SeedResultsError, match="'count' of 'snips' is missing"):
        seed_results.read(path)


def test_progress_speaks_of_long_work_only(capsys):
    progress = runner.Progress("int8", 100, period=0.0)
    progress(50)
    progress(100)
    assert "int8: 50 of 100 rows" in capsys.readouterr().err
    runner.Progress("int8", 100)(50)
    assert capsys.readouterr().err == ""
