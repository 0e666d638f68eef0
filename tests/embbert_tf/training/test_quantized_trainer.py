"""Quantization-aware training from files."""

import csv
import shutil

import pytest

import embbert_tf
from embbert_tf import errors
from embbert_tf.data import examples, files
from embbert_tf.storage import run_folder
from tests.support.runs import run_command, small_rows


@pytest.mark.parametrize(
    "recorded, difference",
    [
        ({}, None),
        ({"steps": "learnt", "consistency": 0.0}, None),  # What runs of yesterday recorded.
        ({"steps": "average"}, "steps"),
        pytest.param({"consistency": 0.4}, "consistency", marks=pytest.mark.slow),
        pytest.param(
            {"steps": "average", "consistency": 0.4, "rounding": "up"},
            "consistency, rounding, steps",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_qat_with_options_since_removed_loads_and_says_how_it_differs(
    tmp_path, tiny_run, small_csv, recorded, difference
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = files.read_json(path / "qat.json")["qat"]
    files.write_json(path / "qat.json", {"qat": settings | recorded})
    command = [f"--run={path}", f"--train={small_csv}", "--epochs=2", "--samples=64"]
    done = run_command("embbert_tf.qat", *command)
    if difference is None:
        assert done.returncode == 0 and "finished already" in done.stdout
    else:
        assert done.returncode == 1
        assert f"with other {difference};" in done.stderr and "Traceback" not in done.stderr
        assert run_folder.load_run(path).qat_model is not None


def test_a_qat_from_before_its_options_counts_as_one_without_them(tmp_path, tiny_run, small_csv):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = files.read_json(path / "qat.json")
    later = ("self_distill", "keep", "unlabelled_count")
    assert [settings["qat"].pop(name) for name in later] == [0.5, "auto", 0]
    assert settings["qat"].pop("unlabelled_sha256") == []
    files.write_json(path / "qat.json", settings)
    done = run_command(
        "embbert_tf.qat", f"--run={path}", f"--train={small_csv}", "--epochs=2", "--samples=64"
    )
    assert done.returncode == 1
    assert "with other keep, self_distill, steps;" in done.stderr


@pytest.mark.slow
def test_qat_of_a_run_without_validation_rows_asks_for_them(tmp_path, tiny_run, small_csv, eager):
    path = tmp_path / "imported"
    shutil.copytree(tiny_run, path)
    for name in ("valid.csv", "ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink(missing_ok=True)
    command = [f"--run={path}", f"--train={small_csv}", "--epochs=1"]
    done = run_command("embbert_tf.qat", *command)
    assert done.returncode == 1
    assert "the run has no validation rows" in done.stderr and "--valid" in done.stderr
    assert not (path / "qat.json").exists()
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\n")
    done = run_command("embbert_tf.qat", *command, f"--valid={empty}")
    assert done.returncode == 1 and f"{empty}:1: no rows" in done.stderr
    assert not (path / "valid.csv").exists()

    rows = list(examples.read_examples(small_csv))
    held_out = tmp_path / "held_out.csv"
    examples.write_csv(held_out, rows[::9])
    done = run_command("embbert_tf.qat", *command, f"--valid={held_out}")
    assert done.returncode == 0, done.stderr
    assert list(examples.read_examples(path / "valid.csv")) == rows[::9]

    for name in ("ranges.json", "qat.json"):
        (path / name).unlink()
    done = run_command("embbert_tf.qat", *command, f"--valid={small_csv}")
    assert done.returncode == 1
    assert "with these rows held out" in done.stderr


@pytest.fixture(scope="module")
def wrong_csv(tmp_path_factory):
    """The training texts, each with the label of another class."""
    after = {"on": "off", "off": "ask", "ask": "on"}
    rows = [("text", "label"), *((text, after[label]) for text, label in small_rows())]
    path = tmp_path_factory.mktemp("wrong") / "wrong.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.slow
def test_qat_learns_from_texts_without_a_label_what_the_run_says_of_them(
    tmp_path, tiny_run, small_csv, wrong_csv, eager
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    for name in ("ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink()
    texts, few = tmp_path / "more.txt", tmp_path / "few.csv"
    texts.write_text("".join(f"{text}\n" for text, _ in small_rows()))
    # With these labels alone the model would unlearn its task.
    held = {(e.text, e.text_pair) for e in examples.read_examples(path / "valid.csv")}
    rows = [e for e in examples.read_examples(wrong_csv) if (e.text, e.text_pair) not in held]
    examples.write_csv(few, rows[:20])
    command = [
        f"--run={path}", f"--train={few}", "--samples=64", "--epochs=4", "--learning_rate=0.003",
        "--self_distill=0.9", f"--unlabelled={texts}",
    ]  # fmt: skip
    done = run_command("embbert_tf.qat", *command)
    assert done.returncode == 0, done.stderr
    # Neither those of the labelled texts nor those that choose the epoch.
    known = {e.text for e in rows[:20]} | {text for text, _ in held}
    count = sum(text not in known for text, _ in small_rows())
    assert f"20 texts with a label, {count} without" in done.stdout
    assert files.read_json(path / run_folder.METRICS)["qat"]["valid"]["accuracy"] > 0.9

    texts.write_text("others\n")
    done = run_command("embbert_tf.qat", *command)
    assert done.returncode == 1
    assert "with other unlabelled_sha256;" in done.stderr


@pytest.mark.parametrize(
    "pair, options, words",
    [
        (False, ["--unlabelled=/nowhere.txt"], "/nowhere.txt: cannot be opened"),
        (False, ["--unlabelled=TEXTS", "--self_distill=0"], "self_distill above 0"),
        (False, ["--unlabelled=TEXTS"], "no text beside"),
        (True, ["--unlabelled=TEXTS"], "trained on pairs"),
    ],
)
def test_qat_says_what_texts_without_a_label_are_of_no_use(
    tmp_path, tiny_run, small_csv, pair, options, words
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    for name in ("ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink()
    settings = files.read_json(path / run_folder.CONFIG)
    files.write_json(path / run_folder.CONFIG, settings | {"pair": pair})
    texts = tmp_path / "more.txt"
    texts.write_text("".join(f"{text}\n" for text, _ in small_rows()))
    options = [option.replace("TEXTS", str(texts)) for option in options]
    done = run_command("embbert_tf.qat", f"--run={path}", f"--train={small_csv}", *options)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (path / "qat.json").exists()


@pytest.mark.parametrize("name", ["train", "test", "valid"])
@pytest.mark.parametrize(
    "content, words",
    [
        ("text,label\nstart it,on\nstop it,halt\n", ".csv:3: label 'halt' does not occur"),
        ("text,label\nstart it,on\nstop \udcff,off\n", ".csv:3: byte 0xff"),
        ("text,text_pair,label\nstart it,now,on\n", ".csv:1: the rows are pairs of texts"),
    ],
    ids=["label", "byte", "pairs"],
)
def test_every_file_is_read_whole_before_anything_is_written(
    monkeypatch, tmp_path, tiny_run, small_csv, name, content, words
):
    from embbert_tf.training import fit

    monkeypatch.setattr(fit, "fit", lambda *_, **__: pytest.fail("it has trained"))
    path, given = tmp_path / "run", {"train": small_csv}
    shutil.copytree(tiny_run, path)
    for file in ("valid.csv", "ranges.json", "qat.json", "qat.keras"):
        (path / file).unlink()
    examples.write_csv(tmp_path / "held.csv", examples.read_all(small_csv)[::9])
    given["valid"] = tmp_path / "held.csv"
    given[name] = tmp_path / f"{name}.csv"
    given[name].write_bytes(content.encode(errors="surrogateescape"))
    before = sorted(path.rglob("*"))
    with pytest.raises(errors.DataError) as caught:
        embbert_tf.train_quantized(path, given.pop("train"), **given)
    assert f"{name}{words}" in str(caught.value)
    assert sorted(path.rglob("*")) == before
