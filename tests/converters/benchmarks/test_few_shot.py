"""What a user with few texts a class gets, as its command prints it."""

import pytest

from converters.benchmarks import few_shot
from embbert_tf.data import examples
from embbert_tf.training.options import QatOptions, TrainOptions
from tests.support.runs import run_command, small_rows


@pytest.fixture(name="data")
def _data(tmp_path):
    """A folder with rows to draw from, and others of the same three classes to ask."""
    rows = [examples.Example(text, None, label) for text, label in small_rows()]
    examples.write_csv(tmp_path / "train.csv", rows[::2])
    examples.write_csv(tmp_path / "valid.csv", rows[1::2])
    return tmp_path


@pytest.mark.slow
def test_draws_trains_converts_and_asks(data, tmp_path, eager, monkeypatch):
    seen = []

    def quick(kind, **more):
        return lambda *args, options=None, **files: (
            seen.append((args, files)) or kind(*args, options=more["options"], **files)
        )

    train, quantize = few_shot.trainer.train, few_shot.quantized_trainer.train_quantized
    small = TrainOptions(preset="test", vocab_size=200, epochs=1)
    monkeypatch.setattr(few_shot.trainer, "train", quick(train, options=small))
    monkeypatch.setattr(
        few_shot.quantized_trainer,
        "train_quantized",
        quick(quantize, options=QatOptions(epochs=1, samples=16)),
    )
    done = run_command("converters.benchmarks.few_shot", f"--data={data}", "--count=4",
                       "--draws=1", f"--output={tmp_path / 'runs'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = examples.read_all(tmp_path / "runs" / "4-0" / "train.csv")
    assert sorted(row.label for row in drawn) == ["ask"] * 4 + ["off"] * 4 + ["on"] * 4
    # The rows that are asked only test.
    assert [files["test"] for _, files in seen] == [data / "valid.csv"] * 2
    draw, mean = done.stdout.splitlines()[-2:]
    assert draw.startswith("| 0 |") and mean.startswith("| mean |")
    cells = [float(cell) for cell in draw.strip("| ").split("|")]
    assert len(cells) == 5 and all(0 <= share <= 100 for share in cells[1:4])
    assert (tmp_path / "runs" / "4-0" / "model" / "model.tflite").exists()


def test_the_mean_is_of_all_draws():
    lines = few_shot.table([[90.0, 91.0, 92.0, 30.0], [94.0, 93.0, 92.0, 50.0]])
    assert lines[1:] == [
        "| 0 | 90.00 | 91.00 | 92.00 | 30 |",
        "| 1 | 94.00 | 93.00 | 92.00 | 50 |",
        "| mean | 92.00 | 92.00 | 92.00 | 40 |",
    ]


def test_a_folder_without_the_rows_is_refused(data, tmp_path):
    (data / "valid.csv").unlink()
    done = run_command("converters.benchmarks.few_shot", f"--data={data}",
                       f"--output={tmp_path / 'runs'}")  # fmt: skip
    assert done.returncode == 1 and "valid.csv: no such file" in done.stderr
    assert not (tmp_path / "runs").exists()
