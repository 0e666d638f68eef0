"""Measures a model folder on a labelled CSV file with the real TFLM interpreter.

Prints one JSON line with the metrics: for a classifier `accuracy`, `macro_f1`, `count` and a table
by class, where there are two of them also `matthews`, `f1` and `weighted_f1`; for a regression
`pearson` and `spearman`.

Example:
  python -m converters.evaluate_tflite --model=build/demo/model --data=test.csv --limit=500
"""

import json

from absl import flags

from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    text = {"flag_values": values}
    flags.DEFINE_string("model", None, "Model folder, or the .tflite in it.", required=True, **text)
    flags.DEFINE_string("data", None, "Labelled CSV (.csv or .csv.gz).", required=True, **text)
    flags.DEFINE_integer(
        "limit", 0, "Take a sample of this many rows; 0 takes all.", lower_bound=0, **text
    )
    flags.DEFINE_integer("seed", 0, "Seed of the sample.", **text)
    flags.DEFINE_integer("workers", 0, "Processes; 0: one a core.", lower_bound=0, **text)
    flags.DEFINE_string("logits", None, "Also write int8 logits (rows, L) to this .npy.", **text)


def main(values: flags.FlagValues) -> None:
    """Measures, and prints one line."""
    from converters.evaluation import model as model_lib

    model = model_lib.load_model(values.model)
    result = model.evaluate(
        values.data, values.limit, values.seed, values.workers, logits_file=values.logits
    )
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    cli.run(define_flags, main)
