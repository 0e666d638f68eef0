"""Shows where a converted model's quantization error comes from, through the real TFLM.

Every named activation of the portable graph (`embbert_tf.quantization.folding.activation_names`), as TFLM
computes it with all tensors preserved, is held against the float model that was converted:

* `snr_db`: signal-to-quantization-noise ratio, 10 log10(sum ref² / sum (int8 - ref)²). The noise is
  all that has piled up from the ids to this tensor.
* `own_snr_db`: the same if nothing but this one tensor were int8: its own rounding and clipping. A
  tensor with a low `own_snr_db` is where noise enters; one with a low `snr_db` alone inherits it.
* `clipped`: share of the float values that lie outside what the tensor can represent.

Scores below the representable range count as its bottom: calibration cuts them off on purpose, as
softmax makes nothing of them (`embbert_tf/quantization/ranges.py`). Padding is left out.

Writes PREFIX.csv, worst tensor first, and PREFIX.png, and prints both rankings.

This module is a command: it sits above `converters`, and no other module imports it.

Example:
  python -m converters.inspect_tflite --run=build/demo/run --tflite=build/demo/model/model.tflite \
      --data=test.csv
"""

import os
import pathlib
import random
import sys

from absl import app, flags

from converters.kernels import recognize
from converters.report import fidelity as fidelity_lib
from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer
from embbert_tf.storage import run_folder

_RUN = flags.DEFINE_string("run", None, "Run folder that was converted.", required=True)
_TFLITE = flags.DEFINE_string(
    "tflite", None, "The portable .tflite made from it, or its model folder.", required=True
)
_DATA = flags.DEFINE_string("data", None, "CSV to run through both models.", required=True)
_OUTPUT = flags.DEFINE_string("output", "inspect", "PREFIX of the .csv and the .png.")
_LIMIT = flags.DEFINE_integer("limit", 32, "Rows to take, a seeded sample.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sample.")


def _print(fidelity: dict[str, fidelity_lib.Fidelity]):
    print("layers by the SNR lost in them:")
    for layer, after, loss in fidelity_lib.rank_layers(fidelity):
        print(f"  layer {layer}: {loss:5.1f} dB lost, {after:5.1f} dB at its output")
    print("tensors, worst first:")
    print("  tensor     SNR dB  own dB  clipped        fp32 range          int8 range")
    for f in sorted(fidelity.values(), key=lambda f: f.snr_db):
        print(
            f"  {f.name:<9}{f.snr_db:>8.1f}{f.own_snr_db:>8.1f}{f.clipped:>9.2%}"
            f"  {f.low:>9.3g} .. {f.high:<8.3g}{f.floor:>9.3g} .. {f.ceiling:<8.3g}"
        )


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        path = pathlib.Path(_TFLITE.value)
        tflite = (path / model_folder.TFLITE if path.is_dir() else path).read_bytes()
        recognize.extract(tflite)  # refuses any other graph before the run takes its time
        run = run_folder.load_run(_RUN.value)
        examples = list(examples_lib.read_examples(_DATA.value))
        if not examples:
            raise errors.DataError(f"{_DATA.value}: no rows")
        folded, reference = fidelity_lib.float_model(run, tflite)
        chosen = random.Random(_SEED.value).sample(examples, min(_LIMIT.value, len(examples)))
        inspector = fidelity_lib.Inspector(tflite, folded)
        for example in chosen:
            second = example.text_pair if run.pair else None
            ids = tokenizer.encode(run.tokenizer, example.text, second, inspector.length)
            inspector.run(ids)
        table, picture = f"{_OUTPUT.value}.csv", f"{_OUTPUT.value}.png"
        fidelity_lib.write_csv(inspector.fidelity, table)
        title = f"{path}: {len(chosen)} texts of {_DATA.value}, TFLM against {reference}"
        fidelity_lib.write_png(inspector.fidelity, picture, title)
    except (errors.RunError, errors.DataError, OSError, ValueError) as error:
        sys.exit(f"inspect: {error}")
    _print(inspector.fidelity)
    print(f"-> {table}, {picture}")


if __name__ == "__main__":
    app.run(main)
