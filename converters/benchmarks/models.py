"""Prints what the models of a task need and reach on a board: EmbBERT beside smaller ones.

    python -m converters.benchmarks.models --data=DATA --tasks=snips,emotion

Rows: the zoo's EmbBERT; with --runs the architectures that were trained to be compared (BERT,
MAMBA and others, which run on TFLM: --tflm_dir and --library); TF-IDF of words and pairs of words,
and the mean of static embeddings, each with a linear model in int8
(`converters/benchmarks/small_models`), trained on the task's training file. Accuracy is that of the
test file, of NLU, LiMiT and GLUE of the validation file. Instructions are those of texts of 12, 64
and 256 tokens of EmbBERT's.

--json keeps the rows, so that a task can be measured on its own, and --markdown puts the tables of
all rows into files.
"""

import pathlib
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence

from absl import flags

from converters.benchmarks import compared_models, libraries, model_rows
from converters.benchmarks.model_rows import TOKENS, Row
from converters.benchmarks.small_models import board as small_board
from converters.benchmarks.small_models import embeddings, tfidf
from converters.evaluation import board, labelled_rows
from converters.firmware import sources
from converters.tflite import model_folder
from converters.zoo import seed_results, task_recipe
from embbert_tf import cli, errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer
from embbert_tf.storage import run_folder

_SEEDS = (0, 1, 2)


def _accuracy(answers: Sequence[str], rows: Sequence[examples_lib.Example]) -> float:
    return sum(a == row.label for a, row in zip(answers, rows, strict=True)) / len(rows)


def texts_of_tokens(rows: Sequence[examples_lib.Example]) -> dict[int, str]:
    """Returns a text of each of `TOKENS` tokens, [CLS] counted, made out of a task's texts."""
    reader = tokenizer.load_tokenizer(sources.model("zoo/backbone") / "tokenizer.json")
    words = " ".join(row.text for row in rows[:200]).split()
    found = {}
    for tokens in TOKENS:
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
            0,
            0,
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
    model = model_folder.load(folder)
    longest = model.max_length
    counts, _ = device.instructions([n for n in TOKENS if n <= longest])
    return Row(
        task,
        "EmbBERT",
        seed_results.values(known, "fp32", "accuracy"),
        seed_results.values(known, "int8", "accuracy"),
        run_folder.load_run(folder).model.count_params(),
        len(model.tflite),
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
    recipe.check_data(data)  # What a recipe starts from is none of the small models' business.
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
    flags.DEFINE_string(
        "runs",
        None,
        "Folder of what `converters.zoo.make --architecture` trained; rows of these, too.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json",
        None,
        "File of rows to keep them in, one a line; those of other tasks and models stay.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "markdown", [], "Files whose tables to replace, between marks.", flag_values=values
    )
    libraries.define_flags(values)
    flags.mark_flag_as_required("data", values)


def main(values: flags.FlagValues) -> None:
    """Measures the tasks, one after the other, and prints the table of all that is known."""
    data = pathlib.Path(values.data)
    for task in values.tasks:
        check(task, data)
    given = libraries.given(values.library, values.tflm_dir)
    runs = pathlib.Path(values.runs) if values.runs else None
    if runs is not None and not runs.is_dir():
        raise errors.OptionError(f"--runs={runs}: no such folder")
    if runs is not None and not any(board == values.board for board, _ in given):
        raise errors.OptionError(
            f"--runs: these models run on TFLM; give --tflm_dir and --library={values.board}=FILE"
        )
    for path in values.markdown:
        model_rows.check_marks(pathlib.Path(path))
    kept = pathlib.Path(values.json) if values.json else None
    rows = model_rows.read(kept) if kept else []
    for task in values.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            place = compared_models.Place.of(values.board, given, values.tflm_dir, folder)
            counted = {
                row.model for row in rows if row.task != task and TOKENS[-1] in row.instructions
            }
            for row in rows_of(task, data, runs, place, counted):
                print(row.markdown(), file=sys.stderr, flush=True)
                rows = model_rows.merged(rows, [row])
                if kept:
                    model_rows.write(kept, rows)
    print("\n".join(model_rows.table(rows)))
    for path in values.markdown:
        model_rows.replace_tables(pathlib.Path(path), rows)


def rows_of(
    task: str,
    data: pathlib.Path,
    runs: pathlib.Path | None,
    place: compared_models.Place,
    counted: Collection[str] = (),
) -> Iterator[Row]:
    """Measures all models of a task: the zoo's, those of `runs`, the small ones.

    Args:
        task: Of zoo/recipes.
        data: Folder of the data sets.
        runs: Of the compared models; None leaves them out.
        place: Where all run.
        counted: As for `compared_models.measure`.
    """
    if (sources.model(f"zoo/{task}") / "model.json").is_file():
        yield embbert_row(task, place.target)
    if runs is not None:
        yield from compared_models.measure(task, data, runs, place, counted)
    yield from small_rows(task, data, place.target, place.folder)


if __name__ == "__main__":
    cli.run(define_flags, main)
