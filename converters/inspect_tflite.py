"""Shows where a converted model's quantization error comes from, through the real TFLM.

Every named activation of the portable graph (`embbert_tf.quantization.folding.activation_names`),
as TFLM computes it with all tensors preserved, is held against the float model that was converted:

* `snr_db`: signal-to-quantization-noise ratio, 10 log10(sum ref² / sum (int8 - ref)²). The noise is
  all that has piled up from the ids to this tensor.
* `own_snr_db`: the same if nothing but this one tensor were int8: its own rounding and clipping. A
  tensor with a low `own_snr_db` is where noise enters; one with a low `snr_db` alone inherits it.
* `clipped`: share of the float values that lie outside what the tensor can represent.

Scores below the representable range count as its bottom: calibration cuts them off on purpose, as
softmax makes nothing of them (`embbert_tf/quantization/ranges.py`). Padding is left out.

Writes PREFIX.csv, worst tensor first, and PREFIX.png, and prints both rankings.

Example:
  python -m converters.inspect_tflite --run=build/demo/run --tflite=build/demo/model/model.tflite \
      --data=test.csv
"""

from absl import flags

from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    text = {"flag_values": values}
    flags.DEFINE_string("run", None, "Run folder that was converted.", required=True, **text)
    flags.DEFINE_string(
        "tflite", None, "The .tflite made from it, or its model folder.", required=True, **text
    )
    flags.DEFINE_string("data", None, "CSV to run through both models.", required=True, **text)
    flags.DEFINE_string("output", "inspect", "PREFIX of the .csv and the .png.", **text)
    flags.DEFINE_integer("limit", 32, "Rows to take, a sample.", lower_bound=1, **text)
    flags.DEFINE_integer("seed", 0, "Seed of the sample.", **text)


def main(values: flags.FlagValues) -> None:
    """Compares the two models, writes a table and a picture, prints both rankings."""
    from converters.report import fidelity, fidelity_picture

    table, picture = f"{values.output}.csv", f"{values.output}.png"
    found, title = fidelity.inspect(
        values.run, values.tflite, values.data, values.limit, values.seed
    )
    fidelity.write_csv(found, table)
    fidelity_picture.write_png(found, picture, title)
    print(fidelity.describe(found))
    print(f"-> {table}, {picture}")


if __name__ == "__main__":
    cli.run(define_flags, main)
