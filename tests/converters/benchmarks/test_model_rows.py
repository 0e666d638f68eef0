"""Rows of the models' table: kept in a file, and put between the marks of others."""

import pytest

from converters.benchmarks import compared_models, model_rows
from converters.benchmarks.model_rows import Row
from embbert_tf import errors
from embbert_tf.baselines import any_model
from tests.support.runs import run_command

EMBBERT = Row("snips", "EmbBERT", [0.98, 0.99], [0.97, 0.99, 0.98], 358151, 368000, 458000, 12000,
              {12: 2236289})  # fmt: skip
SMALL = Row("snips", "small", [0.9], [0.9], 0, 0, 150000, 2000, {12: 2430, 64: 30494})
OTHER = Row("nlu", "small", None, [0.5], 0, 0, 160000, 2100, {})
SUMMARY = """\
| model | parameters | snips % | nlu % | flash kB | RAM kB | million instructions |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| EmbBERT | 358,151 | 98.0 (97.7) | (88.2) | 458 | 12.0 | 2.24 |
| small |  | 90.0 | 50.0 | 150 | 2.0 | 0.00243 |""".splitlines()


def test_rows_are_kept_and_replaced(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert model_rows.read(path) == []
    model_rows.write(path, [EMBBERT, SMALL])
    assert model_rows.read(path) == [EMBBERT, SMALL]
    newer = Row(**{**SMALL.__dict__, "flash": 1})
    assert model_rows.merged([EMBBERT, SMALL], [newer, OTHER]) == [EMBBERT, newer, OTHER]
    path.write_text('{"task": "snips"}\n')
    with pytest.raises(errors.DataError, match=r"rows\.jsonl:1: no row of a model"):
        model_rows.read(path)


def test_every_row_of_a_task_has_a_name_of_its_own():
    names = [
        compared_models.name_of(architecture, pretrained, kernels)
        for architecture in any_model.NAMES
        for pretrained in (False, True)
        for kernels in ((True, False) if architecture == "embbert" else (False,))
    ]
    assert len(set(names)) == len(names)
    assert names[:4] == [
        "EmbBERT, from scratch",
        "EmbBERT, from scratch, on TFLM",
        "EmbBERT, pre-trained",
        "EmbBERT, pre-trained, on TFLM",
    ]
    assert {"BERT 2 MB", "BERT 2 MB, pre-trained"} < set(names)


def test_tables():
    head, line, embbert, small = model_rows.table([EMBBERT, SMALL])
    assert head.count("|") == line.count("|") == embbert.count("|") == small.count("|")
    assert "| 98.00 [97.00..99.00] | 3 | 97.7 ±0.4 | 358,151 | 368,000 | 458,000 |" in embbert
    assert "| 458,000 | 12,000 | 2,236,289 |" in embbert
    assert model_rows.summary([EMBBERT, SMALL, OTHER]) == SUMMARY


def test_replaces_what_stands_between_the_marks(tmp_path):
    long, short = model_rows.TABLES
    path = tmp_path / "page.md"
    path.write_text(
        f"before\n{short}\nold\n{model_rows.END}\nbetween\n{long}\n{model_rows.END}\nx\n"
    )
    model_rows.replace_tables(path, [EMBBERT, SMALL, OTHER])
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith(f"{model_rows.END}\nx\n")
    assert "\n".join([short, *SUMMARY, model_rows.END, "between"]) in text
    assert "\n".join([long, *model_rows.table([EMBBERT, SMALL, OTHER]), model_rows.END]) in text
    path.write_text("no marks")
    with pytest.raises(errors.DataError, match="needs a line '<!-- table: python -m conv"):
        model_rows.replace_tables(path, [])
    path.write_text(f"{short}\n")
    with pytest.raises(errors.DataError, match="no line '<!-- end of table -->' after"):
        model_rows.replace_tables(path, [])


def test_refuses_before_any_work(tmp_path):
    done = run_command("converters.benchmarks.models", f"--data={tmp_path}", "--tasks=snips")
    assert done.returncode == 1 and "snips/train.csv" in done.stderr
    (tmp_path / "snips").mkdir()
    for name in ("train.csv", "valid.csv", "test.csv"):
        (tmp_path / "snips" / name).write_text("text,label\na,b\nc,d\n")
    done = run_command("converters.benchmarks.models", f"--data={tmp_path}", "--tasks=snips",
                       f"--runs={tmp_path / 'none'}")  # fmt: skip
    assert done.returncode == 1 and "none: no such folder" in done.stderr
    for flag, message in (
        (f"--runs={tmp_path}", "give --tflm_dir and --library=mps2-an386=FILE"),
        (f"--markdown={tmp_path / 'snips/test.csv'}", "test.csv: needs a line '<!-- table"),
    ):
        done = run_command(
            "converters.benchmarks.models", f"--data={tmp_path}", "--tasks=snips", flag
        )
        assert done.returncode == 1 and message in done.stderr, done.stderr
