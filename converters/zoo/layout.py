"""The layout of `zoo/`, and what its tables compare with.

`zoo/backbone/` is a backbone folder (`embbert_tf/storage/backbone_folder.py`). `zoo/<task>/` is a
run folder and a model folder in one, so that `--run=zoo/snips` and `MODEL=zoo/snips` both work:

| file | content |
| --- | --- |
| `config.json`, `labels.txt`, `ranges.json`, `qat.json`, `metrics.json` | as in any run folder |
| `weights.npz` | fp32 and QAT weights, rounded (`embbert_tf/storage/packed_weights.py`) |
| `tokenizer.json` | without line breaks |
| `model.tflite`, `model.json` | as in any model folder |
| `zoo.json` | where the weights come from, sizes, and logits to check a copy by |
| `README.md` | the same for people |

`python -m converters.zoo.add` writes such a folder, `python -m converters.zoo.table` measures them.
"""

import dataclasses
import json
import pathlib
from collections.abc import Set
from typing import Any

from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import files

ROOT = pathlib.Path(__file__).resolve().parents[2] / "zoo"
BACKBONE = "backbone"
RECORD = "zoo.json"
CARD = "README.md"
MAX_BYTES = 2_000_000
# Texts whose logits are recorded. Ours, not a data set's.
CHECK_TEXTS = (
    ("play some quiet jazz in the kitchen", "put on slow music next to the stove"),
    ("i am so happy that you came", "nobody came and i am sad"),
    ("what will the weather be like in oslo tomorrow", "the forecast for oslo is rain"),
    ("a long , dull film with one good scene at its very end", "the last scene is good"),
    ("book a table for four at seven", "reserve seats for 4 people at 7 pm"),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set of `zoo/`, and what was published of EmbBERT on it (arXiv 2502.10001).

    Attributes:
        name: Of its folder.
        reported: CSV below the data folder whose figures are reported: the test set, or where its
          labels are not public the development set.
        split: "test", "dev" or "valid": rows of the training data that are kept for it.
        metrics: Keys of `embbert_tf.training.metrics` that are reported.
        published_fp32: The first metric in per cent, mean of the published runs; None if unknown.
        published_8bit: The same with weights in 8 bits.
        commonest: In per cent, a figure a metric, what the training rows' commonest label (or
          their mean score) as the answer to every reported row gets. Empty: not shown.
        bag_of_words: The same of counted words: TF-IDF of one and two words, of a pair also of
          those that both texts share and of those in which they differ, into scikit-learn's
          logistic regression, of scores into its ridge regression.
    """

    name: str
    reported: str
    split: str
    metrics: tuple[str, ...] = ("accuracy",)
    published_fp32: float | None = None
    published_8bit: float | None = None
    commonest: tuple[float, ...] = ()
    bag_of_words: tuple[float, ...] = ()


TASKS = {
    task.name: task
    for task in (
        Task(
            "snips",
            "snips/test.csv",
            "test",
            published_fp32=97.7,
            published_8bit=97.9,
        ),
        # Weights of 4 bits and half the vocabulary: for 256 kB of flash.
        Task("snips_small", "snips/test.csv", "test"),
        Task(
            "emotion",
            "emotion/test.csv",
            "test",
            published_fp32=89.6,
            published_8bit=89.9,
        ),
        Task(
            "sst2",
            "sst2/valid.csv",
            "dev",
            published_fp32=79.3,
            published_8bit=81.0,
        ),
        Task(
            "imdb",
            "imdb/test.csv.gz",
            "test",
            published_fp32=84.1,
            published_8bit=84.0,
        ),
        Task(
            "agnews",
            "agnews/test.csv",
            "test",
            published_fp32=90.5,
            published_8bit=90.6,
        ),
        # Its published 8-bit figure is of test rows that were in part trained on, as is NLU's.
        Task(
            "cyberbullying",
            "cyberbullying/test.csv",
            "test",
            published_fp32=84.0,
            published_8bit=86.6,
        ),
        Task(
            "nlu",
            "nlu/valid.csv",
            "valid",
            published_fp32=88.2,
            published_8bit=94.1,
        ),
        Task(
            "limit",
            "limit/valid.csv",
            "valid",
            published_fp32=76.4,
            published_8bit=74.1,
        ),
        Task(
            "cola",
            "cola/valid.csv",
            "dev",
            ("matthews",),
            published_fp32=11.0,
            published_8bit=10.7,
            commonest=(0.0,),
            bag_of_words=(0.0,),
        ),
        Task(
            "mrpc",
            "mrpc/valid.csv",
            "dev",
            ("accuracy", "f1"),
            commonest=(68.38, 81.22),
            bag_of_words=(77.70, 84.71),
        ),
        Task(
            "stsb",
            "stsb/valid.csv",
            "dev",
            ("pearson", "spearman"),
            commonest=(0.0, 0.0),
            bag_of_words=(69.43, 69.55),
        ),
        Task("qnli", "qnli/valid.csv", "dev", published_fp32=68.9, published_8bit=68.1),
        Task("rte", "rte/valid.csv", "valid", published_fp32=50.0, published_8bit=49.3),
        Task(
            "qqp",
            "qqp/valid.csv",
            "dev",
            ("weighted_f1", "accuracy"),
            published_fp32=83.2,
            published_8bit=82.5,
        ),
        Task("mnli", "mnli/valid.csv", "dev", published_fp32=67.8, published_8bit=67.1),
        Task(
            "mnli_mismatched",
            "mnli/valid_mismatched.csv",
            "dev",
            published_fp32=68.6,
            published_8bit=68.1,
        ),
        Task("wnli", "wnli/valid.csv", "dev", published_fp32=12.4, published_8bit=12.7),
    )
}


class ZooError(errors.EmbBertError):
    """A folder that cannot be put into `zoo/` or read from it; the message says why."""


def folders(root: files.PathLike = ROOT) -> list[pathlib.Path]:
    """Returns the tasks' folders below `root`, sorted by name."""
    root = pathlib.Path(root)
    return sorted(path.parent for path in root.glob(f"*/{RECORD}"))


def read_record(path: files.PathLike) -> dict[str, Any]:
    """Returns the content of a task folder's `zoo.json`.

    Raises:
        ZooError: It is missing or damaged.
    """
    path = pathlib.Path(path)
    try:
        record = files.read_json(path / RECORD)
    except errors.RunError as error:
        raise ZooError(f"{error}; `python -m converters.zoo.add` makes such a folder") from error
    for key in ("origin", "sizes", "checks"):
        if key not in record:
            raise ZooError(f"{path / RECORD}: '{key}' is missing; add the run to the zoo again")
    return record


def chosen_on_validation(origin: dict[str, Any]) -> bool:
    """Whether an epoch of training or of QAT stayed because it was the best of several."""
    stages = (origin.get(name) or {} for name in ("training", "qat"))
    return any(s.get("keep", "best") == "best" and s.get("epochs") != 1 for s in stages)


def folder_bytes(path: files.PathLike) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())


def kept_rows(path: str | None, root: pathlib.Path, tasks: Set[str]) -> dict[str, list[dict]]:
    """Returns the rows of an earlier table, by task, of the models that are still the same.

    Args:
        path: What `converters.zoo.table --json` wrote; None or a missing file has no rows.
        root: Folder of the models.
        tasks: Names of the tasks whose rows are wanted.

    Raises:
        ZooError: The file is none of that command's.
    """
    if path is None or not pathlib.Path(path).exists():
        return {}
    kept: dict[str, list[dict]] = {}
    for number, line in enumerate(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            task, measured, _ = row["task"], row["tflite_sha256"], row["drawn"]
        except (ValueError, KeyError, TypeError) as error:
            raise ZooError(
                f"{path}:{number}: no row of converters.zoo.table ({error}); delete the file"
            ) from error
        if task not in tasks:
            continue
        there = root / task / model_folder.TFLITE
        if there.exists() and files.sha256(there) == measured:
            kept.setdefault(task, []).append(row)
        else:
            print(f"{path}:{number}: {task} has another model now; its row is left out", flush=True)
    return kept
