"""What a teacher says of texts, and texts without a label."""

import pytest

from embbert_tf import errors
from embbert_tf.data import soft_labels

LABELS = ["ask", "off", "on"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("text,on,off\na,1,0\n", "no column 'ask'"),
        ("text,on,off,ask\na,1,0,no\n", ":2:"),
        ("text,on,off,ask\na,0.2,0.3,0.5\nb,5,-3,1\n", "softmax"),
        ("text,on,off,ask\n", "no rows"),
        ("text,text_pair,on,off,ask\na,b,1,0,0\n", "pairs"),
        ("text,on,off,ask\na,1,0\n", "3 fields"),
    ],
)
def test_bad_soft_labels_are_named(tmp_path, content, words):
    path = tmp_path / "soft.csv"
    path.write_text(content)
    with pytest.raises(errors.DataError, match=r"soft\.csv") as error:
        soft_labels.read_soft_labels(path, LABELS, pair=False)
    assert words in str(error.value)


def test_soft_labels_of_pairs_and_scores(tmp_path):
    path = tmp_path / "soft.csv"
    path.write_text("score,text_pair,text\n3.5,b,a\n")
    assert soft_labels.read_soft_labels(path, [], pair=True) == {("a", "b"): [3.5]}


def test_unlabelled_texts_are_drawn_once_and_never_from_the_data(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"text {i}\n" for i in range(100)))
    known = {(f"text {i}", None) for i in range(50)}
    drawn = [[e.text for e in soft_labels.read_unlabelled([path], 20, s, known)] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 20
    assert all((text, None) not in known for text in drawn[0])
    assert len(soft_labels.read_unlabelled([path], 0, 0, known)) == 50
    with pytest.raises(errors.DataError, match=r"texts\.txt"):
        soft_labels.read_unlabelled([path], 0, 0, {(f"text {i}", None) for i in range(100)})
    with pytest.raises(errors.CorpusError, match=r"missing\.txt"):
        soft_labels.read_unlabelled([tmp_path / "missing.txt"], 0, 0, set())
