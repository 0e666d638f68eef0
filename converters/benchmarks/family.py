"""Prints what every size of EmbBERT needs on a board: flash, RAM and instructions.

    python -m converters.benchmarks.family --texts=train.csv

Each size goes through everything that a model of one's own does: its tokenizer learns from the
texts, it is trained in a few steps, fine-tuned with quantization, converted and linked into the
firmware of the board. What it answers after so few steps is worth nothing, and what it needs does
not depend on that. The texts must be many: those of 16,384 tokens are some megabytes.
"""

import dataclasses
import pathlib
import tempfile

from absl import app, flags

import converters
from converters.evaluation import board, shots
from embbert_tf import cli, errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model.config import PRESETS
from embbert_tf.training import quantized_trainer, trainer
from embbert_tf.training.options import QatOptions, TrainOptions

FAMILY = ("nano", "tiny", "embbert", "medium", "big")
LENGTHS = (64, 128, 256)  # of the RAM: what MAX_TOKENS says
TOKENS = (12, 64, 256)  # of the instructions: a text's
BITS = ("8", "4")
HEADER = """\
| size | weights | parameters | `.tflite` | flash | RAM, 64 tokens | 128 | 256 \
| instructions, 12 tokens | 64 | 256 |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
_TEXTS = 32  # that it is trained with: a step, and one of its quantization


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a model needs on a board.

    Attributes:
        preset: Its size.
        bits: Of its weights.
        parameters: Without the head.
        tflite: Bytes of the file.
        flash: Bytes of the whole program.
        ram: Of the whole program with its stack, by the most tokens that it takes.
        instructions: Of an inference, by its number of tokens.
    """

    preset: str
    bits: int
    parameters: int
    tflite: int
    flash: int
    ram: dict[int, int]
    instructions: dict[int, int]

    def markdown(self) -> str:
        """Returns the row of the table."""
        numbers = [self.parameters, self.tflite, self.flash]
        numbers += [self.ram[n] for n in LENGTHS]
        cells = [self.preset, f"{self.bits} bits", *(f"{number:,}" for number in numbers)]
        cells += [f"{self.instructions[n] / 1e6:.2f} M" for n in TOKENS]
        return "| " + " | ".join(cells) + " |"


def train(preset: str, texts: pathlib.Path, bits: int, folder: pathlib.Path) -> int:
    """Trains and converts a model of a size, in as few steps as there can be.

    Args:
        preset: The size.
        texts: CSV with the columns text and label.
        bits: Of the weights.
        folder: For everything; the model folder is `model` in it.

    Returns:
        Parameters without the head.

    Raises:
        OptionError: The texts are too few for the size's vocabulary.
        EmbBertError: As the steps do.
    """
    rows = examples_lib.read_all(texts, pair=False)
    files.make_folder(folder)
    config = PRESETS[preset]
    tokenizer = tokenizer_lib.train_tokenizer((row.text for row in rows), config.vocab_size)
    if tokenizer.get_vocab_size() < config.vocab_size:
        raise errors.OptionError(
            f"{texts}: its texts make {tokenizer.get_vocab_size()} tokens, and {preset} has "
            f"{config.vocab_size}; give more text or leave {preset} out of --presets"
        )
    names, few = folder / "tokenizer.json", folder / "few.csv"
    tokenizer.save(str(names))
    labels = [row.label for row in rows]
    each = max(2, _TEXTS // len(set(labels)))
    examples_lib.write_csv(few, [rows[i] for i in shots.draw(labels, each, 0)])
    options = TrainOptions(preset=preset, tokenizer=str(names), epochs=1)
    run = trainer.train(few, output=folder / "run", options=options)
    qat = QatOptions(epochs=1, weight_bits=bits, samples=_TEXTS)
    run = quantized_trainer.train_quantized(run, few, qat)
    length = converters.ConvertOptions(max_length=max(LENGTHS))
    converters.convert(run, calibration=few, options=length).save(folder / "model")
    return int(run.model.backbone.count_params())


def measure(
    preset: str, texts: pathlib.Path, bits: int, folder: pathlib.Path, target: str
) -> Needs:
    """Trains and converts a model of a size, builds its firmware and measures that.

    Args:
        preset: The size.
        texts: CSV with the columns text and label.
        bits: Of the weights.
        folder: For everything.
        target: The board.

    Raises:
        EmbBertError: As of `train`, or the firmware cannot be built or run.
    """
    parameters = train(preset, texts, bits, folder)
    model = folder / "model"
    sizes = {n: board.Board(target, model, max_tokens=n).sizes() for n in LENGTHS}
    counts, _ = board.Board(target, model).instructions(TOKENS)
    return Needs(
        preset,
        bits,
        parameters,
        next(model.glob("*.tflite")).stat().st_size,
        sizes[max(LENGTHS)]["flash_bytes"],
        {n: size["ram_bytes"] for n, size in sizes.items()},
        counts,
    )


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string("texts", None, "CSV with the columns text and label.", flag_values=values)
    flags.DEFINE_list("presets", list(FAMILY), "Sizes.", flag_values=values)
    flags.DEFINE_list("bits", list(BITS), "Of the weights: 8, 4 or both.", flag_values=values)
    flags.DEFINE_string(
        "target",
        "mps2-an386-16m",
        "Board; tflm_app/Makefile knows which there are.",
        flag_values=values,
    )
    flags.DEFINE_string("output", None, "Folder to keep the models in.", flag_values=values)
    flags.mark_flag_as_required("texts", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    for name, given, known in (
        ("presets", values.presets, FAMILY),
        ("bits", values.bits, BITS),
    ):
        if not given or set(given) - set(known):
            raise app.UsageError(f"--{name}={','.join(given)}: say some of {','.join(known)}")
    with tempfile.TemporaryDirectory() as scratch:
        output = pathlib.Path(values.output or scratch)
        lines = [HEADER]
        for preset in values.presets:
            for bits in values.bits:
                folder = output / f"{preset}-{bits}"
                texts = pathlib.Path(values.texts)
                needs = measure(preset, texts, int(bits), folder, values.target)
                lines.append(needs.markdown())
    print("\n".join(lines))


if __name__ == "__main__":
    cli.run(define_flags, main)
