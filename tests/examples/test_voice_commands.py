import importlib.util
import pathlib

from embbert_tf.data import examples

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "voice_commands"


def test_files_are_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("make_voice_commands", FOLDER / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for name, text in make.files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text


def test_sizes_and_separation():
    train = list(examples.read_examples(FOLDER / "train.csv"))
    test = list(examples.read_examples(FOLDER / "test.csv"))
    assert len(train) >= 1500
    assert len(test) >= 300
    assert len({e.label for e in train}) >= 8
    assert {e.label for e in train} == {e.label for e in test}
    assert not {e.text for e in train} & {e.text for e in test}
