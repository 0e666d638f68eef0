"""Trains an encoder, from whose rows a device learns labels of its own without a training step.

Example:
  python -m embbert_tf.embed_texts --input=texts.txt --encoder=all-MiniLM-L6-v2 --sentences=1 \
    --output=build/embeddings.safetensors
  python -m embbert_tf.train_encoder --embeddings=build/embeddings.safetensors \
    --init=zoo/backbone --output=build/encoder

The model's logits become a short form of a sentence encoder's embedding, so that near texts have
near rows. Everything goes to the run folder `--output`; a run that was killed goes on where it was
when the same command is given again. Next: `python -m embbert_tf.qat --run=build/encoder
--train=build/embeddings.safetensors`.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.training import encoder
from embbert_tf.training.options import EncoderOptions


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "embeddings",
        None,
        "Texts with a sentence encoder's embeddings: a file of `python -m embbert_tf.embed_texts`.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string("output", None, "Run folder.", required=True, flag_values=values)
    cli.define_options(EncoderOptions, values)


def main(values: flags.FlagValues) -> None:
    """Trains as the flags say."""
    options = cli.options_of(EncoderOptions, values)
    encoder.train_encoder(values.embeddings, output=values.output, options=options)


if __name__ == "__main__":
    cli.run(define_flags, main)
