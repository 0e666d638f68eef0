"""Pre-trains a backbone on plain text, with a sentence encoder for a teacher if there is one.

    python -m embbert_tf.pretrain --input=corpus.txt.gz,more.txt --output=build/backbone
    python -m embbert_tf.pretrain --input=corpus.txt.gz --embeddings=embeddings.safetensors ...

The result is a backbone folder for `train --init`. A run that was stopped, killed even, goes on
from its last checkpoint when the same command is given again, to the very weights of an
uninterrupted run. On several machines, start the same command on each, with `TF_CONFIG` as
TensorFlow's MultiWorkerMirroredStrategy has it and `--output` on a shared file system; if a worker
dies, the others wait at the last checkpoint until it is started again.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.pretraining.options import PretrainOptions


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
        "output",
        None,
        "Backbone folder to write; holds checkpoints too.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "tokenizer",
        None,
        "tokenizer.json to use; by default that of --init, or one is trained on the texts.",
        flag_values=values,
    )
    flags.DEFINE_string("init", None, "Backbone or run folder to start from.", flag_values=values)
    flags.DEFINE_string(
        "embeddings",
        None,
        "File of texts with a sentence encoder's embeddings, of embbert_tf.embed_texts, to learn "
        "from as well.",
        flag_values=values,
    )
    cli.define_options(PretrainOptions, values)


def main(values: flags.FlagValues) -> None:
    """Pre-trains."""
    options = cli.options_of(PretrainOptions, values)
    from embbert_tf.pretraining import cluster, pretrain  # Seconds to load.

    with cluster.starting_again("embbert_tf.pretrain"):
        pretrain.pretrain(
            values.input,
            output=values.output,
            tokenizer=values.tokenizer,
            init=values.init,
            embeddings=values.embeddings,
            options=options,
        )


if __name__ == "__main__":
    cli.run(define_flags, main)
