r"""Converts a trained model to a full-int8 `.tflite` for TFLM, in a model folder.

The folder of `--output` receives the `.tflite`, `tokenizer.json`, `labels.txt` and `model.json`
(see `converters/tflite/model_folder.py`).

Examples:
  python converters/convert_tflite.py --run=build/demo/run --calibration=train.csv \
      --output=build/demo/model/model.tflite --max_length=32
  python converters/convert_tflite.py --model=my.keras --tokenizer=tokenizer.json \
      --labels=labels.txt --calibration=train.csv --output=build/mine/any_name.tflite

The recipe says where ranges come from (`calibration/recipes.py`): `qat` takes those that
quantization-aware training learnt, the others measure them on a sample of --calibration.
"""

import pathlib
import sys

if __package__ in (None, ""):  # run as a script, from any folder
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from absl import flags

from calibration import recipes
from converters.portable.options import ConvertOptions
from embbert_tf import cli, errors

_FILES = ("tokenizer", "labels", "pair")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    text = {"flag_values": values}
    flags.DEFINE_string("run", None, "Run folder that training wrote; or give --model.", **text)
    flags.DEFINE_string("model", None, "A .keras file, fp32 or quantized, in its place.", **text)
    flags.DEFINE_string("tokenizer", None, "With --model: its tokenizer.json.", **text)
    flags.DEFINE_string(
        "labels", None, "With --model: one label a line; without it, one logit is a score.", **text
    )
    flags.DEFINE_bool(
        "pair", None, "With --model: it reads pairs; default: if --calibration has them.", **text
    )
    flags.DEFINE_string(
        "calibration", None, "CSV to draw representative samples from: training data.",
        required=True, **text,
    )  # fmt: skip
    flags.DEFINE_string(
        "output", None, "The .tflite to write; its folder becomes the model folder.",
        required=True, **text,
    )  # fmt: skip
    flags.DEFINE_enum(
        "recipe", None, list(recipes.RECIPES), "Quantization scheme; default qat after QAT, "
        "else mse.", **text,
    )  # fmt: skip
    flags.DEFINE_string(
        "validation", None,
        "CSV to choose the confidence threshold on: it keeps 99 % of the right answers.", **text,
    )  # fmt: skip
    cli.define_options(ConvertOptions, values)


def main(values: flags.FlagValues) -> None:
    """Converts a run, or a Keras file with its tokenizer and labels."""
    if not values.output.endswith(".tflite"):
        raise errors.OptionError(f"--output={values.output}: the file's name must end in .tflite")
    common = {
        "calibration": values.calibration,
        "validation": values.validation,
        "recipe": values.recipe,
        "options": cli.options_of(ConvertOptions, values),
    }
    if (values.run is None) == (values.model is None):
        raise errors.OptionError("give either --run or --model")
    if values.run is not None:
        for name in _FILES:
            if values[name].value is not None:
                raise errors.OptionError(f"--{name} goes with --model; a run knows its own")
        from converters.portable import convert

        model = convert.convert(values.run, **common)
    else:
        if values.tokenizer is None:
            raise errors.OptionError("--model needs --tokenizer, the tokenizer.json it learnt with")
        from converters.portable import keras_files

        own = {name: values[name].value for name in _FILES}
        model = keras_files.convert_files(values.model, **own, **common)
    saved = model.save(values.output)
    print(saved.settings["schedule"])
    if saved.settings["weights"]:
        print(f"weights: {saved.settings['weights']}")
    recipe = saved.settings["recipe"]["name"]
    print(f"recipe {recipe}; {len(saved.tflite)} bytes -> {saved.tflite_path}")


if __name__ == "__main__":
    cli.run(define_flags, main)
