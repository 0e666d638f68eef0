"""Prints what the models of a task need and reach on a board: EmbBERT beside smaller ones.

    python -m converters.benchmarks.models --data=DATA --tasks=snips,emotion

Rows: the zoo's EmbBERT; TF-IDF of words and pairs of words, and the mean of static embeddings, each
with a linear model in int8 (`converters/benchmarks/small_models`), trained on the task's training
file. Accuracy is that of the test file, of NLU, LiMiT and GLUE of the validation file. Instructions
are those of texts of 12, 64 and 256 tokens of EmbBERT's.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

from absl import flags

from converters.benchmarks.small_models import board as small_board
from converters.benchmarks.small_models import embeddings, tfidf
from converters.evaluation import board, labelled_rows
from converters.firmware import sources
from converters.tflite import model_folder
from converters.zoo import seed_results, task_recipe
from embbert_tf import cli, errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer

_TOKENS = (12, 64, 256)
_SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Row:
    """What a model needs and reaches.

    Attributes:
        task: Of zoo/recipes.
        model: Its name.
        fp32: Accuracies of the seeds; None where there are none.
        int8: Those on the device, likewise.
        flash: Bytes of the whole program.
        ram: Bytes that the model writes to, without stack and input.
        instructions: By number of EmbBERT's tokens.
    """

    task: str
    model: str
    fp32: list[float] | None
    int8: list[float] | None
    flash: int
    ram: int
    instructions: dict[int, int]

    def markdown(self) -> str:
        """Returns the row of the table."""
        shares = [seed_results.cell(values) for values in (self.fp32, self.int8)]
        cells = [self.task, self.model, *shares]
        cells += [f"{self.flash:,}", f"{self.ram:,}"]
        cells += [f"{self.instructions[n]:,}" if n in self.instructions else "" for n in _TOKENS]
        return "| " + " | ".join(cells) + " |"


HEADER = """\
| task | model | fp32 | int8 | flash | RAM of the model | 12 tokens | 64 tokens | 256 tokens |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def _accuracy(answers: Sequence[str], rows: Sequence[examples_lib.Example]) -> float:
    return sum(a == row.label for a, row in zip(answers, rows, strict=True)) / len(rows)


def texts_of_tokens(rows: Sequence[examples_lib.Example]) -> dict[int, str]:
    """Returns a text of each of `_TOKENS` tokens, [CLS] counted, made out of a task's texts."""
    reader = tokenizer.load_tokenizer(sources.model("zoo/backbone") / "tokenizer.json")
    words = " ".join(row.text for row in rows[:200]).split()
    found = {}
    for tokens in _TOKENS:
        for end in range(1, len(words)):
            text = " ".join(words[:end])
            if len(tokenizer.encode(reader, text)) >= tokens:
                found[tokens] = text
                break
    return found


def small_rows(task: str, data: pathlib.Path, name: str, folder: pathlib.Path) -> Iterator[Row]:
    """Trains the small models of a task and measures them.

    Args:
        task: Of zoo/recipes.
        data: Folder of the data sets.
        name: Of the board.
        folder: For programs.

    Raises:
        EmbBertError: Data cannot be used, a program not be built or run; a board's answer is
            another than the reference's.
    """
    recipe = task_recipe.read(task)
    training = labelled_rows.read_sample(data / recipe.data.train)
    asked = labelled_rows.read_sample(data / recipe.data.test, recipe.data.limit)
    texts, answers = [e.text for e in training], [e.label for e in training]
    lengths = texts_of_tokens(training)
    questions = [e.text for e in asked]
    trained: dict[str, list] = {
        "TF-IDF, linear": [tfidf.TfIdf.train(texts, answers)],  # no chance in it: one is enough
        "mean of embeddings, linear": [
            embeddings.MeanEmbeddings.train(texts, answers, seed) for seed in _SEEDS
        ],
    }
    for model_name, models in trained.items():
        exact = [model.quantize() for model in models]
        program = small_board.build(
            exact[0], name, folder / f"{task} {model_name}".replace(" ", "-")
        )
        said, spent = program.run([*questions, *lengths.values()])
        if said[: len(asked)] != exact[0].predict(questions):
            raise small_board.SmallModelError(f"{task}, {model_name}: another answer on the board")
        yield Row(
            task,
            model_name,
            [_accuracy(model.predict(questions), asked) for model in models],
            [_accuracy(model.predict(questions), asked) for model in exact],
            program.flash_bytes,
            program.ram_bytes,
            dict(zip(lengths, spent[len(asked) :], strict=True)),
        )


def embbert_row(task: str, name: str) -> Row:
    """Measures the zoo's model of a task; its accuracies are those that zoo/seeds.json has.

    Raises:
        EmbBertError: The zoo has none, or its firmware cannot be built or run.
    """
    folder = sources.model(f"zoo/{task}")
    known = seed_results.read(sources.model("zoo") / seed_results.FILE).get(task, {"runs": []})
    device = board.Board(name, folder)
    longest = model_folder.load(folder).max_length
    counts, _ = device.instructions([n for n in _TOKENS if n <= longest])
    return Row(
        task,
        "EmbBERT",
        seed_results.values(known, "fp32", "accuracy"),
        seed_results.values(known, "int8", "accuracy"),
        device.sizes()["flash_bytes"],
        device.model_memory(),
        counts,
    )


def check(task: str, data: pathlib.Path) -> None:
    """Sees that the small models can do a task, before any work.

    Raises:
        EmbBertError: Its files are not there; it is a regression or reads pairs of texts.
    """
    recipe = task_recipe.read(task)
    recipe.check_inputs(data)
    first = next(examples_lib.read_examples(data / recipe.data.train), None)
    if recipe.train.task != "classification" or (first and first.text_pair is not None):
        raise errors.OptionError(
            f"--tasks={task}: the small models tell labels of single texts; leave it out"
        )


def define_flags(values: flags.FlagValues) -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("data", None, "Folder of the data sets.", flag_values=values)
    flags.DEFINE_list("tasks", "snips,nlu,emotion,sst2", "Of zoo/recipes.", flag_values=values)
    flags.DEFINE_string("board", "mps2-an386", "Of tflm_app/boards.", flag_values=values)
    flags.mark_flag_as_required("data", values)


def main(values: flags.FlagValues) -> None:
    """Prints the table."""
    data = pathlib.Path(values.data)
    for task in values.tasks:
        check(task, data)
    print(HEADER, flush=True)
    for task in values.tasks:
        with tempfile.TemporaryDirectory() as folder:
            if (sources.model(f"zoo/{task}") / "model.json").is_file():
                print(embbert_row(task, values.board).markdown(), flush=True)
            for row in small_rows(task, data, values.board, pathlib.Path(folder)):
                print(row.markdown(), flush=True)


if __name__ == "__main__":
    cli.run(define_flags, main)
