import csv
import gzip
import subprocess
import sys

import pytest

from embbert_tf import errors
from embbert_tf.data import examples, tokenizer
from embbert_tf.data import labels as labels_lib


def read(path):
    return [(e.text, e.text_pair, e.label) for e in examples.read_examples(path)]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_plain_compressed_and_byte_order_mark(tmp_path, suffix, mark):
    path = tmp_path / f"a{suffix}"
    content = mark + 'text,label\n"a, b",x\n\nüß,y\r\n"two\nlines",z\n'.encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert read(path) == [("a, b", None, "x"), ("üß", None, "y"), ("two\nlines", None, "z")]


def test_pairs_in_any_column_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,label,text_pair,text\n1,yes,second,first\n")
    assert read(path) == [("first", "second", "yes")]


@pytest.mark.parametrize(
    "content, line, words",
    [
        (b"text,intent\na,b\n", 1, "label"),
        (b"words,label\na,b\n", 1, "text"),
        (b"text,label\na,b\nc,\n", 3, "empty label"),
        (b"text,label\n ,b\n", 2, "empty text"),
        (b"text,label\na,b\nc\xff,d\n", 3, "0xff"),
        (b"text,label\na,b\nc,d,e\n", 3, "3 fields"),
        (b'text,label\na,b\n"c,d\n', 3, "CSV"),
        (b"", 1, "empty"),
        (b"text,label,text\na,b,c\n", 1, "2 columns have the name 'text'"),
        ("text,label\na,b\n".encode("utf-16"), 1, "UTF-16"),
        ("text,label\na,b\n".encode("utf-16-be"), 1, "NUL byte at position 1"),
        (b"text,label\na,b\nc\0d,b\n", 3, "NUL byte at position 2"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, line, words):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(errors.DataError) as caught:
        read(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("separator", "shown"),
    [(";", "';'"), ("\t", "a tab"), ("|", "'|'")],
    ids=["semi", "tab", "bar"],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_another_separator_is_named_and_the_command_mends_it(tmp_path, separator, shown, suffix):
    path = tmp_path / f"o'clock{suffix}"
    content = (
        separator.join(["label", "text"]) + "\n" + separator.join(["on", "now, please"]) + "\n"
    )
    path.write_bytes(gzip.compress(content.encode()) if suffix == ".csv.gz" else content.encode())
    with pytest.raises(errors.DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:1: the separator seems to be {shown}, not a comma")
    command = message.split("or convert it: ")[1].replace("python3", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read(tmp_path / "commas.csv") == [("now, please", None, "on")]


def test_another_separator_between_quoted_names(tmp_path):
    path = tmp_path / "quoted.csv"
    path.write_text('"text";"label"\n"a";"b"\n')
    with pytest.raises(errors.DataError, match=r"quoted\.csv:1: the separator seems to be ';'"):
        read(path)
    path.write_text('text,label\n"a; b",x;y\n')  # No separator there, but a part of the text.
    assert read(path) == [("a; b", None, "x;y")]


def test_a_text_of_any_length_is_read(tmp_path):
    path = tmp_path / "long.csv"
    text = "word, " * 50_000
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), (text, "x")])
    assert read(path) == [(text.strip(), None, "x")]


@pytest.mark.parametrize(
    ("labels", "shown", "kind"),
    [
        (["home", "HOME", "home"], "'HOME' (1 row) and 'home' (2 rows)", "case"),
        (["set alarm", "set  alarm", "setalarm"], "'set alarm' (1 row) and 'setalarm'", "spaces"),
        (
            ["caf\u00e9", "cafe\u0301"],
            r"'cafe\u0301' (1 row) and 'caf\xe9' (1 row)",
            "Unicode form",
        ),
        (["on", "on\u200b"], r"'on' (1 row) and 'on\u200b' (1 row)", "invisible characters"),
        (["1", "1.0"], "'1' (1 row) and '1.0' (1 row)", "how they write a number"),
        (
            ["Stra\u00dfe 1", "STRASSE1"],
            "'STRASSE1' (1 row) and 'Straße 1' (1 row)",
            "case, spaces,",
        ),
    ],
    ids=["case", "spaces", "normal form", "invisible", "number", "several"],
)
def test_labels_that_look_alike_are_named(labels, shown, kind):
    (sentence,) = labels_lib.look_alike_labels([*labels, "other"])
    assert shown in sentence
    assert kind in sentence.split("differ only in ")[1]


def test_labels_that_are_distinct_are_not_named():
    names = ["home", "house", "1", "10", "-1", "a b", "a c", "e", "é", "nan", "none"]
    assert labels_lib.look_alike_labels(names * 3) == []
    pairs = [f"{case}{i}" for i in range(12) for case in ("label", "LABEL")]
    sentences = labels_lib.look_alike_labels(pairs)
    assert len(sentences) == 11
    assert sentences[-1] == "2 more groups of labels look alike"


def test_a_missing_and_a_cut_off_file(tmp_path):
    with pytest.raises(errors.DataError, match=r"none\.csv: cannot be opened"):
        read(tmp_path / "none.csv")
    whole = gzip.compress(b"text,label\n" + b"".join(b"word %d,x\n" % i for i in range(9999)))
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.DataError, match=r"cut\.csv\.gz:\d+: cannot be read"):
        read(path)


def test_one_class_is_no_classifier():
    same = [examples.Example("a", None, "x"), examples.Example("b", None, "x")]
    with pytest.raises(errors.DataError, match="'x'"):
        labels_lib.label_names(same, "one.csv")
    numbers = [examples.Example("a", None, label) for label in ("10", "9", "10")]
    assert labels_lib.label_names(numbers, "n.csv") == ["9", "10"]


def test_reading_is_streamed(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("text,label\na,b\nc,\n")
    rows = examples.read_examples(path)
    assert next(rows).text == "a"  # Before the bad line is reached.
    with pytest.raises(errors.DataError):
        next(rows)


def test_encoding_of_texts_and_pairs():
    tok = tokenizer.train_tokenizer(["red green blue"] * 3, 60)
    red, green, blue = (tok.token_to_id(word) for word in ("red", "green", "blue"))
    assert tokenizer.encode(tok, "Réd  GREEN") == [2, red, green]
    assert tokenizer.encode(tok, "red", "green blue") == [2, red, 4, green, blue]
    assert tokenizer.encode(tok, "red green blue", max_length=3) == [2, red, green]
    assert tokenizer.encode(tok, "red green blue", "blue", max_length=5) == [2, red, green, 4, blue]
    # A text cannot smuggle in a second segment.
    assert 4 not in tokenizer.encode(tok, "red [SEP] blue")
    assert tokenizer.segment_ids([2, 9, 4, 7, 4, 0]) == [1, 1, 2, 2, 2, 0]
