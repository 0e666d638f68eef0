r"""Imports PyTorch weights of EmbBERT, or of a model beside it, as a run or backbone folder.

    python -m embbert_tf.import_checkpoint --input=model.safetensors --tokenizer=tokenizer.json \
        --output=build/imported

Reads safetensors, and PyTorch state dictionaries (`.pt`, `.bin`) with PyTorch's weights-only
loader: neither can run code from the file. With a `classifier` in the file the result is a run
folder, without one a backbone folder for `train --init`.

Names may have a prefix, as `torch.nn.DataParallel` (`module.`), `torch.compile` (`_orig_mod.`) and
training frameworks write it: it is taken off and printed. Heads of pre-training are left out, which
is printed too, and so are buffers of integers such as `position_ids`.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.storage import checkpoint_import


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "input",
        None,
        "PyTorch state dict (.pt, .bin) or .safetensors file.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "tokenizer",
        None,
        "tokenizer.json that the weights were trained with.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string("output", None, "Folder to write.", required=True, flag_values=values)
    cli.define_options(checkpoint_import.ImportOptions, values)


def main(values: flags.FlagValues) -> None:
    """Imports."""
    model = checkpoint_import.import_checkpoint(
        values.input,
        values.tokenizer,
        values.output,
        cli.options_of(checkpoint_import.ImportOptions, values),
        report=lambda line: print(f"{values.input}: {line}"),
    )
    kind = "classifier" if hasattr(model, "num_labels") else "backbone"
    print(f"{values.output}: {kind}, {model.count_params():,} parameters")


if __name__ == "__main__":
    cli.run(define_flags, main)
