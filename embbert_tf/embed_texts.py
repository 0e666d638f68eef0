"""Writes what a sentence encoder says of texts, for `embbert_tf.pretrain --embeddings`.

    pip install embbert-tflm[teacher]
    python -m embbert_tf.embed_texts --input=corpus.txt.gz --encoder=all-MiniLM-L6-v2 \
      --output=build/embeddings.safetensors

Half of the texts are sentences, half passages of several, all drawn from the files. A run that was
stopped goes on where it was when the same command is given again. Which encoders can be had without
a network, and what they are for: docs/training.md.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.pretraining.options import EmbedOptions


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_list(
        "input",
        None,
        "Text files, plain or .gz, a document a line.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "encoder",
        None,
        "Folder of a sentence-transformers model, name of an installed package that has one, or "
        "name on the Hugging Face Hub.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "output", None, ".safetensors file to write.", required=True, flag_values=values
    )
    cli.define_options(EmbedOptions, values)


def main(values: flags.FlagValues) -> None:
    """Writes the embeddings."""
    options = cli.options_of(EmbedOptions, values)
    from embbert_tf.pretraining import embed  # Seconds to load.

    embed.embed_texts(values.input, values.output, encoder=values.encoder, options=options)


if __name__ == "__main__":
    cli.run(define_flags, main)
