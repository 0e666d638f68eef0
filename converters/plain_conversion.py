"""Converts a run with nothing but `tf.lite.TFLiteConverter`: the rival of the portable graph.

TensorFlow's full-int8 conversion with its defaults: int32 token ids in, int8 logits out, the
padding mask taken from the ids; see `converters/plain_graph.py`.

Example:
  python -m converters.plain_conversion --run=build/demo/run --calibration=train.csv \
      --max_length=64 --output=plain.tflite
"""

import pathlib
import sys

from absl import app, flags

from calibration import samples
from converters import plain_graph
from embbert_tf import data as data_lib
from embbert_tf import run as run_lib
from embbert_tf import tokenizer as tokenizer_lib

_RUN = flags.DEFINE_string("run", None, "Run folder that training wrote.")
_CALIBRATION = flags.DEFINE_string("calibration", None, "CSV to draw representative samples from.")
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite to write.")
_MAX_LENGTH = flags.DEFINE_integer("max_length", 0, "Tokens of the input; 0: the model's maximum.")
_COUNT = flags.DEFINE_integer("samples", 256, "Representative samples.", lower_bound=1)
_SEED = flags.DEFINE_integer("sample_seed", 0, "Seed of the samples.")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        run = run_lib.load_run(_RUN.value)
        examples = list(data_lib.read_examples(_CALIBRATION.value))
        if not examples:
            raise data_lib.DataError(f"{_CALIBRATION.value}: no rows to calibrate on")
        max_length = _MAX_LENGTH.value or run.config.max_length
        sequences = [
            tokenizer_lib.encode(
                run.tokenizer, e.text, e.text_pair if run.pair else None, max_length
            )
            for e in examples
        ]
        chosen = samples.pick(examples, [len(s) for s in sequences], _COUNT.value, _SEED.value)
        picked = [sequences[i] for i in chosen]
        tflite = plain_graph.convert(run.model, picked, max_length, run.pair)
        output = pathlib.Path(_OUTPUT.value)
        output.parent.mkdir(parents=True, exist_ok=True)
        run_lib.write_atomic(output, lambda path: path.write_bytes(tflite))
    except (run_lib.RunError, data_lib.DataError, OSError, ValueError) as error:
        sys.exit(f"plain_conversion: {error}")
    print(f"{len(tflite)} bytes -> {output}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["run", "calibration", "output"])
    app.run(main)
