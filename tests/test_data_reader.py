import gzip

import pytest

from embbert_tf import data, tokenizer


def read(path):
    return [(e.text, e.text_pair, e.label) for e in data.read_examples(path)]


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
    ],
)
def test_errors_name_file_and_line(tmp_path, content, line, words):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(data.DataError) as caught:
        read(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_and_a_cut_off_file(tmp_path):
    with pytest.raises(data.DataError, match=r"none\.csv: cannot be opened"):
        read(tmp_path / "none.csv")
    whole = gzip.compress(b"text,label\n" + b"".join(b"word %d,x\n" % i for i in range(9999)))
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.DataError, match=r"cut\.csv\.gz:\d+: cannot be read"):
        read(path)


def test_one_class_is_no_classifier():
    same = [data.Example("a", None, "x"), data.Example("b", None, "x")]
    with pytest.raises(data.DataError, match="'x'"):
        data.label_names(same, "one.csv")
    numbers = [data.Example("a", None, label) for label in ("10", "9", "10")]
    assert data.label_names(numbers, "n.csv") == ["9", "10"]


def test_reading_is_streamed(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("text,label\na,b\nc,\n")
    rows = data.read_examples(path)
    assert next(rows).text == "a"  # Before the bad line is reached.
    with pytest.raises(data.DataError):
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
