"""Options: bounds, contradictions, what a run folder records of them, and their flags."""

import dataclasses
import importlib
import pathlib
import re

import pytest
from absl import flags

import embbert_tf
from embbert_tf import errors
from embbert_tf.training import options as options_lib
from tests.support.runs import run_command


@pytest.mark.parametrize(
    "kind, chosen, words",
    [
        ("TrainOptions", {"epochs": -1}, "epochs must be at least 0, not -1"),
        ("TrainOptions", {"learning_rate": float("nan")}, "learning_rate must be at least"),
        ("TrainOptions", {"weight_decay": float("inf")}, "weight_decay must be at most"),
        ("TrainOptions", {"label_smoothing": 1.0}, "label_smoothing must be at most 0.9"),
        ("TrainOptions", {"preset": "huge"}, "preset must be one of big, embbert,"),
        ("TrainOptions", {"architecture": "gpt"}, "architecture must be one of embbert, bert,"),
        ("TrainOptions", {"architecture": "bert", "preset": "nano"}, "leave preset away"),
        ("TrainOptions", {"architecture": "bert", "init": "a"}, "leave architecture away"),
        ("TrainOptions", {"attend_to_padding": True}, "embbert has no such form"),
        ("TrainOptions", {"seed": 2**32}, "seed must be at most"),
        ("TrainOptions", {"batch_size": 8.0}, "batch_size must be of type int, not 8.0"),
        ("TrainOptions", {"init": "a", "tokenizer": "b"}, "leave tokenizer away"),
        ("TrainOptions", {"init": "a", "vocab_size": 99}, "leave vocab_size away"),
        ("TrainOptions", {"tokenizer": "a", "vocab_size": 99}, "leave vocab_size away"),
        ("TrainOptions", {"teacher_weight": 0.9}, "teacher_weight needs soft_labels"),
        ("TrainOptions", {"temperature": 1.0}, "temperature needs soft_labels"),
        ("QatOptions", {"epochs": 0}, "epochs must be at least 1"),
        ("QatOptions", {"unlabelled": "texts.txt"}, "unlabelled must be of type tuple"),
        ("QatOptions", {"unlabelled": ("a",), "self_distill": 0}, "self_distill above 0"),
        ("QatOptions", {"unlabelled_count": 5}, "unlabelled_count needs unlabelled files"),
    ],
)
def test_options_out_of_bounds_or_in_contradiction_are_refused(kind, chosen, words):
    with pytest.raises(errors.OptionError, match=re.escape(words)):
        getattr(embbert_tf, kind)(**chosen)


def test_files_may_be_paths_of_any_kind():
    options = embbert_tf.TrainOptions(init=pathlib.Path("zoo", "backbone"), soft_labels="")
    assert (options.init, options.soft_labels) == ("zoo/backbone", None)
    assert embbert_tf.QatOptions(unlabelled=[pathlib.Path("a.txt")]).unlabelled == ("a.txt",)


@pytest.mark.parametrize("kind", [embbert_tf.TrainOptions, embbert_tf.QatOptions])
def test_a_run_records_every_option_but_the_names_of_files(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    files = {"init", "tokenizer", "soft_labels", "unlabelled"}
    recorded = options_lib.recorded(kind(), {"train": "00"})
    assert recorded.keys() == names - files | {"train_sha256"}


def test_what_older_runs_did_not_record_was_at_its_default():
    now = options_lib.recorded(embbert_tf.TrainOptions(ema=0.5), {"train": "a", "valid": None})
    before = {name: now[name] for name in ("preset", "epochs", "train_sha256")}
    assert options_lib.differences(before, now) == ["ema"]
    assert options_lib.differences(before | {"ema": 0.5, "gone": 0.0}, now) == []
    assert options_lib.differences(before | {"ema": 0.5, "gone": 0.3}, now) == ["gone"]
    assert options_lib.differences(before | {"seed": 3, "train_sha256": "b"}, now) == [
        "ema",
        "seed",
        "train_sha256",
    ]


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--epochs=-1", "--epochs=-1"),
        ("--keep=first", "auto|best|last"),
        ("--vocab_size=99", "vocab_size is that of a new tokenizer"),
    ],
)
def test_flags_are_the_options(flag, words):
    done = run_command("embbert_tf.train", "--train=a", "--output=b", "--init=c", flag)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    "command, kind",
    [("embbert_tf.train", embbert_tf.TrainOptions), ("embbert_tf.qat", embbert_tf.QatOptions)],
)
def test_help_shows_every_option(command, kind):
    values = flags.FlagValues()
    importlib.import_module(command).define_flags(values)
    shown = {flag.name: flag.help for flag in values.get_key_flags_for_module(command)}
    for field in dataclasses.fields(kind):
        assert field.metadata["meaning"] in shown[field.name]


def test_few_validation_rows_choose_no_epoch():
    for kind in (embbert_tf.TrainOptions, embbert_tf.QatOptions):
        chosen = [options_lib.with_kept(kind(), rows).keep for rows in (1, 99, 100)]
        assert chosen == ["last", "last", "best"]
        for keep in ("best", "last"):
            assert options_lib.with_kept(kind(keep=keep), 50).keep == keep
