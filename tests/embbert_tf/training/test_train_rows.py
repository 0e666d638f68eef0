"""What a training reads: no text that measures it, in whatever pair."""

from embbert_tf.data import csv_files
from embbert_tf.training import train_rows
from embbert_tf.training.options import TrainOptions

HEADER = ("text", "text_pair", "score")


def test_no_pair_of_a_teacher_has_a_text_of_a_measuring_pair(tmp_path):
    train = [(f"a {i}", f"b {i}", str(i % 5)) for i in range(40)]
    test = [("a test", "b test", "3")]
    rows = {
        "train.csv": [("text", "text_pair", "label"), *train],
        "test.csv": [("text", "text_pair", "label"), *test],
    }
    for name, content in rows.items():
        csv_files.write_rows(tmp_path / name, content[0], content[1:])
    options = TrainOptions(task="regression", soft_labels=str(tmp_path / "soft.csv"))
    held = train_rows.read(
        tmp_path / "train.csv", None, tmp_path / "test.csv", TrainOptions(task="regression")
    ).valid
    first, second = held[0].text, held[0].text_pair
    seen = [
        *train,
        (first, "another", "1"),
        (second, first, "1"),
        ("another", second, "1"),
        ("a test", "another", "1"),
        ("b test", "a test", "1"),
        ("one", "another", "2"),
    ]
    csv_files.write_rows(tmp_path / "soft.csv", HEADER, seen)
    read = train_rows.read(tmp_path / "train.csv", None, tmp_path / "test.csv", options)
    assert read.valid == held
    assert [(e.text, e.text_pair) for e in read.more] == [("one", "another")]
    assert read.taught.shape == (40 - len(held) + 1, 1)
