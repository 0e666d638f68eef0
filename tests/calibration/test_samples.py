"""What the conversion says of a calibration file that does not stand for what the device reads."""

import pytest

from calibration import samples
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.examples import Example
from embbert_tf.model import special_tokens
from tests.support.runs import run_command

LABELS = ["off", "on"]


def rows(lengths, labels=LABELS, pair=False, first_id=5, unknown=0):
    """Distinct texts of these many tokens, their labels in turn."""
    examples, sequences = [], []
    for index, length in enumerate(lengths):
        label = labels[index % len(labels)]
        examples.append(Example(f"text {index}", "second" if pair else None, label))
        body = [first_id + index, *range(1000, 1000 + length - 2)]
        if unknown:
            body[1 : 1 + unknown] = [special_tokens.UNK] * unknown
        sequences.append([special_tokens.CLS, *body])
    return samples.Rows(examples, sequences)


GOOD = rows([8, 9, 10, 11] * 10)
LIKE = rows([8, 9, 10, 11] * 19 + [60] * 4)  # a twentieth is longer than any of GOOD


def lacks(sample, labels=LABELS, **arguments):
    found = samples.shortcomings(sample, labels, **arguments)
    assert all(sentence == sentence.strip() and "\n" not in sentence for sentence in found)
    return found


@pytest.mark.parametrize(
    "arguments",
    [{}, {"max_length": 16}, {"max_length": 4}, {"count": 32}, {"validation": LIKE}],
)
def test_nothing_is_said_of_a_sample_that_will_do(arguments):
    assert lacks(GOOD, **arguments) == []


@pytest.mark.parametrize("count", [1, 10, 200, 366, 574, 2000])
def test_the_length_covers_what_it_promises_and_no_more(count):
    lengths = list(range(9 * count, 0, -9))  # Far enough apart for each to count.
    found = samples.covering_length(lengths, 9 * count + 3)
    assert sum(n <= found for n in lengths) >= 0.995 * count
    assert sum(n <= found - 4 for n in lengths) < 0.995 * count
    assert samples.covering_length(lengths, 8) == min(found, 8)


def test_a_handful_of_texts():
    assert lacks(rows([9] * 32)) == []
    (sentence,) = lacks(rows([9] * 31))
    assert sentence.startswith("ranges are measured on 31 distinct texts; with fewer than 32 ")
    same = rows([9] * 2)
    (sentence,) = lacks(samples.Rows(same.examples * 50, same.sequences * 50))
    assert "measured on 2 distinct texts" in sentence
    (sentence,) = lacks(GOOD, count=5)
    assert "measured on 5 distinct texts" in sentence
    (sentence,) = lacks(rows([9], ["on"]), ["on"])
    assert "measured on 1 distinct text;" in sentence
    assert lacks(samples.Rows([], [])) == ["there is no text to calibrate on"]


def test_labels_that_do_not_occur():
    (sentence,) = lacks(GOOD, ["off", "on", "dim"])
    assert sentence.startswith("no row has the label 'dim', 1 of the model's 3 labels;")
    many = [f"label {i}" for i in range(500)]
    (sentence,) = lacks(rows([9] * 40, many[:10]), many)
    assert sentence.startswith("no row has the label 'label 10', 'label 11', 'label 12', ")
    assert "and 485 more, 490 of the model's 500 labels" in sentence


def test_labels_of_another_task():
    (sentence,) = lacks(rows([9] * 40, ["off", "on", "on", "loud"]))
    assert sentence.startswith("10 rows of 40 have labels that the model does not know ('loud');")
    assert sentence.endswith("The model knows 'off', 'on'")
    foreign, missing = lacks(rows([9] * 40, ["neg", "pos"]))
    assert foreign.startswith("40 rows of 40 have labels that the model does not know ('neg', 'p")
    assert missing.startswith("no row has the label 'off', 'on', 2 of")


def test_scores_of_a_part_of_the_range():
    whole = rows([9] * 60, [f"{i / 10}" for i in range(51)])
    assert lacks(whole, [], validation=whole) == []
    assert lacks(whole, []) == []
    high = rows([9] * 60, ["4", "4.5", "5.0"])
    assert lacks(high, []) == []  # Nothing says what other scores there are.
    (sentence,) = lacks(high, [], validation=whole)
    assert sentence == (
        "the scores lie within 4..5, those of the validation rows within 0..5; the rest of that "
        "range is not measured"
    )
    beyond = rows([9] * 60, ["60", "100"])
    assert "within 60..100, those of the validation" in lacks(beyond, [], validation=whole)[0]
    (sentence,) = lacks(rows([9] * 60, ["3"]), [])
    assert sentence == "every row has the score 3; other scores are not measured"


def test_labels_that_are_no_scores():
    (sentence,) = lacks(rows([9] * 60, ["1", "2", "high", "nan"]), [])
    assert sentence.startswith("30 rows of 60 have a label that is no score ('high', 'nan');")
    (sentence,) = lacks(rows([9] * 60, ["yes", "no"]), [])
    assert sentence.startswith("60 rows of 60 have a label that is no score ('yes', 'no');")


def test_texts_that_are_much_shorter():
    assert lacks(GOOD, max_length=22) == []
    (sentence,) = lacks(GOOD, max_length=23)
    assert sentence.startswith("the longest text has 11 tokens, the graph reads 23;")
    validation = rows([9, 30, 40, 10] * 10)
    (sentence,) = lacks(GOOD, validation=validation)
    assert sentence.startswith(
        "the longest text has 11 tokens, but 50% of the rows that training held out are longer, up "
        "to 40; what they cause is not measured, and the graph will cut them off"
    )
    (sentence,) = lacks(GOOD, validation=validation, max_length=20)
    assert "are longer, up to 40; what they cause is not measured" in sentence
    assert "cut them off" not in sentence
    assert lacks(GOOD, validation=validation, max_length=10) == []  # The graph reads no more.


def test_unknown_tokens():
    assert lacks(rows([22] * 40, unknown=1)) == []
    (sentence,) = lacks(rows([22] * 40, unknown=5))
    assert sentence.startswith("24% of the tokens are [UNK]; are the texts in a language")
    assert lacks(rows([22] * 40, unknown=5), validation=rows([22] * 40, unknown=2)) == []
    assert len(lacks(rows([22] * 40, unknown=7), validation=rows([22] * 40, unknown=2))) == 1


def test_another_script_is_unknown_to_a_tokenizer():
    tokenizer = tokenizer_lib.train_tokenizer(["turn on the light in the hall"] * 9, 80)
    for text, count in (("turn the light on {}", 0), ("включи свет {}", 1), ("打开灯 {}", 1)):
        examples = [Example(text.format("hall " * i), None, LABELS[i % 2]) for i in range(1, 4)]
        sequences = [tokenizer_lib.encode(tokenizer, e.text) for e in examples]
        found = lacks(samples.Rows(examples, sequences))
        assert sum("are [UNK]" in sentence for sentence in found) == count


def test_pairs_and_single_texts_for_the_other_kind_of_model():
    assert lacks(rows([9] * 40, pair=True), pair=True) == []
    (sentence,) = lacks(GOOD, pair=True)
    assert sentence.startswith("40 rows of 40 have no text_pair, and the model reads pairs;")
    (sentence,) = lacks(rows([9] * 40, pair=True))
    assert sentence == "the rows have a text_pair, which this model does not read"


@pytest.mark.slow
def test_the_conversion_says_so(tiny_run, small_csv, tmp_path):
    handful = tmp_path / "handful.csv"
    handful.write_text("text,label\nstart the fan,on\nplay some jazz,music\n")
    said = {}
    for name, path in (("good", small_csv), ("handful", handful)):
        done = run_command(
            "converters.convert_tflite", f"--run={tiny_run}", f"--calibration={path}",
            f"--output={tmp_path / name / 'model.tflite'}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        start = "convert_tflite: warning: "
        said[name] = [
            line.removeprefix(start) for line in done.stderr.splitlines() if line.startswith(start)
        ]
    assert said["good"] == []
    assert said["handful"][0].startswith("ranges are measured on 2 distinct texts;")
    assert said["handful"][1].startswith("1 row of 2 have labels that the model does not know")
    assert said["handful"][2].startswith("no row has the label 'ask', 'off', 2 of the model's 3")
