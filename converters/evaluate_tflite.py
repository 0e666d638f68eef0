"""Measures a model folder on a labelled CSV file with the real TFLM interpreter.

Prints one JSON line: `accuracy`, `macro_f1` and `count` for a classifier (with `matthews` where
there are two classes), `pearson` and `spearman` for a regression.

Example:
  python -m converters.evaluate_tflite --model=build/demo/model --data=test.csv --limit=500
"""

import json
import random
import sys

import numpy as np
from absl import app, flags

from converters import model_folder, tflm_runner
from embbert_tf import data as data_lib

_MODEL = flags.DEFINE_string("model", None, "Model folder.", required=True)
_DATA = flags.DEFINE_string("data", None, "Labelled CSV (.csv or .csv.gz).", required=True)
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Take a seeded sample of this many rows; 0 takes all.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sample.")
_LOGITS = flags.DEFINE_string("logits", None, "Also write the int8 logits (rows, L) to this .npy.")


def read_rows(
    folder: model_folder.ModelFolder, path: str, limit: int = 0, seed: int = 0
) -> tuple[list[list[int]], list]:
    """Returns the token ids and the targets (class index or score) of a CSV file's rows.

    Raises:
      DataError: The file cannot be used with this model.
    """
    examples = list(data_lib.read_examples(path))
    if limit and limit < len(examples):
        examples = random.Random(seed).sample(examples, limit)
    if not examples:
        raise data_lib.DataError(f"{path}: no rows")
    index = {label: number for number, label in enumerate(folder.labels)}
    sequences, targets = [], []
    for number, example in enumerate(examples):
        if folder.pair and example.text_pair is None:
            raise data_lib.DataError(f"{path}: the model takes pairs, but text_pair is missing")
        sequences.append(folder.encode(example.text, example.text_pair if folder.pair else None))
        if folder.task == "regression":
            targets.append(data_lib.score(example, path))
        elif example.label in index:
            targets.append(index[example.label])
        else:
            raise data_lib.DataError(
                f"{path}: row {number + 1} has the label '{example.label}', which the model does "
                f"not know; it knows {', '.join(folder.labels)}"
            )
    return sequences, targets


def metrics(task: str, logits: np.ndarray, targets: list) -> dict[str, float]:
    """Returns the metrics of int8 or float logits (count, L) against targets.

    Args:
      task: "classification" or "regression".
      logits: One row an example. A positive scale or an offset changes nothing.
      targets: Class indices or scores.
    """
    if task == "regression":
        from scipy import stats

        values = logits[:, 0].astype(np.float64)
        return {
            "pearson": float(stats.pearsonr(values, targets).statistic),
            "spearman": float(stats.spearmanr(values, targets).statistic),
            "count": len(targets),
        }
    from sklearn import metrics as sk

    predicted = logits.argmax(axis=1)
    result = {
        "accuracy": float(np.mean(predicted == np.asarray(targets))),
        "macro_f1": float(sk.f1_score(targets, predicted, average="macro")),
        "count": len(targets),
    }
    if logits.shape[1] == 2:
        result["matthews"] = float(sk.matthews_corrcoef(targets, predicted))
    return result


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        folder = model_folder.load(_MODEL.value)
        sequences, targets = read_rows(folder, _DATA.value, _LIMIT.value, _SEED.value)
        logits = tflm_runner.run_all(folder, sequences)
        if _LOGITS.value:
            with open(_LOGITS.value, "wb") as file:
                np.save(file, logits)
    except (model_folder.ModelFolderError, data_lib.DataError, OSError) as error:
        sys.exit(f"evaluate_tflite: {error}")
    print(json.dumps(metrics(folder.task, logits, targets)))


if __name__ == "__main__":
    app.run(main)
