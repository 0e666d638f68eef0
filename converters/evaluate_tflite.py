"""Measures a model folder on a labelled CSV file with the real TFLM interpreter.

Prints one JSON line: `accuracy`, `macro_f1`, `count` and a table by class for a classifier (with
`matthews` and `f1` where there are two classes), `pearson` and `spearman` for a regression.

Example:
  python -m converters.evaluate_tflite --model=build/demo/model --data=test.csv --limit=500
"""

import json
import sys

import numpy as np
from absl import app, flags

from converters.evaluation import labelled_rows
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf import errors
from embbert_tf.training import metrics

_MODEL = flags.DEFINE_string("model", None, "Model folder.", required=True)
_DATA = flags.DEFINE_string("data", None, "Labelled CSV (.csv or .csv.gz).", required=True)
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Take a seeded sample of this many rows; 0 takes all.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sample.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one a core.", lower_bound=0)
_LOGITS = flags.DEFINE_string("logits", None, "Also write the int8 logits (rows, L) to this .npy.")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        folder = model_folder.load(_MODEL.value)
        sequences, targets = labelled_rows.read_rows(folder, _DATA.value, _LIMIT.value, _SEED.value)
        progress = runner.Progress("evaluate_tflite", len(sequences))
        logits = runner.run_all(folder, sequences, _WORKERS.value, progress)
        if _LOGITS.value:
            with open(_LOGITS.value, "wb") as file:
                np.save(file, logits)
    except (model_folder.ModelFolderError, errors.DataError, OSError) as error:
        sys.exit(f"evaluate_tflite: {error}")
    # A positive scale and an offset change none of the metrics: int8 logits do as they are.
    if folder.task == "regression":
        print(json.dumps(metrics.regression(logits, targets)))
    else:
        print(json.dumps(metrics.classification(logits, targets, folder.labels)))


if __name__ == "__main__":
    app.run(main)
