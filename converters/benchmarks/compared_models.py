"""Rows of the models that EmbBERT is compared with, of run folders and on a board."""

import dataclasses
import itertools
import pathlib
import warnings
from collections.abc import Collection, Iterator

import numpy as np

import converters
from calibration import recipes
from converters.benchmarks.libraries import Library
from converters.benchmarks.model_rows import TOKENS, Row
from converters.evaluation import board as board_lib
from converters.evaluation import labelled_rows
from converters.zoo import seed_results, task_recipe
from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.data import examples as examples_lib
from embbert_tf.storage import run_folder

# What a row is called.
NAMES = {
    any_model.EMBBERT: "EmbBERT",
    "bert": "BERT 2 MB",
    "nano_bert": "NanoBERT",
    "bert_ea": "BERT + EA",
    "bert_ne_ea": "BERT + NE + EA",
    "mamba": "MAMBA 2 MB",
    "mamba_ne": "MAMBA + NE",
    "embedder": "embedder alone",
    "embedder_conv": "embedder, convolution",
}
# Rows that a board answers to be held against the host.
_ASKED = 100
# Of them so many may get another label: CMSIS-NN rounds softmax otherwise than the host's kernels.
_LEAST_ALIKE = 0.97


class ComparedModelError(errors.EmbBertError):
    """A run was not measured yet, or a board answers otherwise than the host."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where models run.

    Attributes:
        target: Board of tflm_app.
        library: TFLM for it; EmbBERT needs none.
        tflm_dir: TFLM's headers.
        folder: For what is made.
    """

    target: str
    library: pathlib.Path | None
    tflm_dir: pathlib.Path | None
    folder: pathlib.Path

    @classmethod
    def of(
        cls, target: str, libraries: list[Library], tflm_dir: str | None, folder: pathlib.Path
    ) -> "Place":
        """Returns the place of a board, with its library if there is one among those given."""
        library = next((file for name, file in libraries if name == target), None)
        return cls(target, library, pathlib.Path(tflm_dir) if tflm_dir else None, folder)

    def board(self, model: pathlib.Path, kernels: bool) -> board_lib.Board:
        """Returns the board with a model, on EmbBERT's kernels or on TFLM."""
        if kernels:
            return board_lib.Board(self.target, model)
        if self.library is None or self.tflm_dir is None:
            raise ComparedModelError(
                f"{model.name} runs on TFLM: give --tflm_dir and --library={self.target}=FILE"
            )
        variables = {
            "RUNTIME": "tflm",
            "TFLM_DIR": self.tflm_dir.resolve(),
            "TFLM_LIB": self.library.resolve(),
        }
        return board_lib.Board(self.target, model, variables=variables)


def name_of(architecture: str, pretrained: bool, kernels: bool) -> str:
    """Returns what the row of a model is called.

    Args:
        architecture: Of `any_model.NAMES`.
        pretrained: Whether it started from a backbone of `embbert_tf.pretrain`.
        kernels: Whether it runs on EmbBERT's kernels, and not on TFLM.
    """
    parts = [NAMES[architecture]]
    if pretrained:
        parts.append("pre-trained")
    elif architecture == any_model.EMBBERT:  # The zoo's model has the name without more.
        parts.append("from scratch")
    if architecture == any_model.EMBBERT and not kernels:
        parts.append("on TFLM")
    return ", ".join(parts)


def measure(
    task: str,
    data: pathlib.Path,
    runs: pathlib.Path,
    place: Place,
    counted: Collection[str] = (),
) -> Iterator[Row]:
    """Measures every architecture of a task that has been trained.

    Args:
        task: Of zoo/recipes.
        data: Folder of the data sets.
        runs: What `python -m converters.zoo.make --architecture` wrote, measured by the command
            that it printed: `<task>-<architecture>-<seed>`, and seeds.json.
        place: Where they run.
        counted: Models whose instructions of longer texts another task has shown: they hang on
            sizes alone, and each length takes a graph and a program of its own. Those of
            pre-trained models are never counted, as they are the others' again.

    Raises:
        ComparedModelError: A run was not measured, or a board answers otherwise than the host.
        EmbBertError: A run cannot be converted, or a program not be built or run.
    """
    recipe = task_recipe.read(task)
    results = runs / seed_results.FILE
    known = seed_results.read(results) if results.exists() else {}
    for architecture, pretrained in itertools.product(any_model.NAMES, (False, True)):
        name = task_recipe.compared_name(task, architecture, pretrained)
        found = sorted(runs.glob(f"{name}-[0-9]*"), key=lambda p: int(p.name.split("-")[-1]))
        finished = [path for path in found if (path / run_folder.RANGES).exists()]
        if not finished:
            continue
        if name not in known:
            raise ComparedModelError(
                f"{finished[0]}: not measured yet; give the command that converters.zoo.make "
                "printed after training it"
            )
        run = run_folder.load_run(finished[0])
        calibration = data / recipe.data.train
        folder = place.folder / name
        model = _convert(run, calibration, known[name]["max_length"], folder)
        for kernels in (True, False) if architecture == any_model.EMBBERT else (False,):
            device = place.board(folder, kernels)
            _check_answers(model, device, data / recipe.data.test)
            title = name_of(architecture, pretrained, kernels)
            lengths = TOKENS[:1] if pretrained or title in counted else TOKENS
            yield Row(
                task,
                title,
                seed_results.values(known[name], "fp32", "accuracy"),
                seed_results.values(known[name], "int8", "accuracy"),
                run.model.count_params(),
                len(model.tflite),
                device.sizes()["flash_bytes"],
                device.model_memory(),
                _instructions(run, calibration, place, kernels, model, lengths),
            )


def _convert(
    run: run_folder.Run, calibration: pathlib.Path, length: int, folder: pathlib.Path
) -> converters.Model:
    options = converters.ConvertOptions(max_length=length)
    with warnings.catch_warnings():
        # The task has no texts as long as some graphs whose instructions are counted.
        warnings.simplefilter("ignore", recipes.CalibrationWarning)
        model = converters.convert(run, calibration=calibration, recipe="qat", options=options)
    return model.save(folder)


def _instructions(
    run: run_folder.Run,
    calibration: pathlib.Path,
    place: Place,
    kernels: bool,
    model: converters.Model,
    lengths: tuple[int, ...],
) -> dict[int, int]:
    """Counts the instructions of texts of so many tokens.

    On TFLM a graph computes all its positions, whatever the text has: each number of tokens beyond
    the task's graph gets a graph of that length.
    """
    counts = {}
    for tokens in lengths:
        length = max(model.max_length, tokens)
        folder = place.folder / f"{model.path.name if model.path else ''}-{length}"
        if length > model.max_length:
            if not folder.exists():
                _convert(run, calibration, length, folder)
        elif model.path is not None:
            folder = model.path
        found, _ = place.board(folder, kernels).instructions([tokens])
        counts[tokens] = found[tokens]
    return counts


def _check_answers(model: converters.Model, device: board_lib.Board, test: pathlib.Path) -> None:
    """Sees that a board answers as the host does.

    Raises:
        ComparedModelError: Too many labels differ.
    """
    examples = labelled_rows.read_sample(test, _ASKED)
    fitting = board_lib.fitting_rows(model, examples, device.text_bytes())
    rows = [row for row in fitting if row is not None]
    assert model.path is not None  # It was saved.
    csv, logits = model.path / "asked.csv", model.path / "logits.bin"
    examples_lib.write_csv(csv, rows)
    device.evaluate(csv, logits, len(rows))
    said = board_lib.read_logits(logits, len(rows), max(len(model.labels), 1))
    model.evaluate(csv, logits_file=model.path / "host.npy")
    expected = np.load(model.path / "host.npy")
    alike = float(np.mean(said.argmax(axis=1) == expected.argmax(axis=1)))
    if alike < _LEAST_ALIKE:
        raise ComparedModelError(
            f"{model.path}: {100 * alike:.1f} % of {len(rows)} labels on "
            f"{device.target} are those of the host"
        )
