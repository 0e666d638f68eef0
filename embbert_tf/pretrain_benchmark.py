"""Measures pre-training: tokens per second, and where the time goes.

    python -m embbert_tf.pretrain_benchmark

Times are the least of `--repeats` steps on made-up text, after `--warm_up` steps: other work on the
machine only ever adds to them (on a crowded one even the least is too long, and a share can come
out negative). The shares are differences of growing parts of a step: the blocks forward, with the
head over the vocabulary and its softmax, with the way back, with the optimizer. The input pipeline
is timed alone; in training it runs beside the model.
"""

import dataclasses
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from embbert_tf import corpus, pretrain
from embbert_tf.config import PRESETS
from embbert_tf.tokenizer import SEP


@dataclasses.dataclass(frozen=True)
class Costs:
    """Milliseconds a step; `step` is a whole training step without input.

    Attributes:
        batch_input: Making a batch, alone, on one core.
        forward: Embedder and blocks.
        softmax: Head over the vocabulary, softmax and loss.
        backward: All gradients.
        optimizer: Clipping and AdamW, and the strategy's overhead.
        step: The whole step.
        tokens: Tokens a step.
    """

    batch_input: float
    forward: float
    softmax: float
    backward: float
    optimizer: float
    step: float
    tokens: int


def measure(config, length, batch_tokens, whole_words=False, warm_up=2, repeats=7) -> Costs:
    """Times the parts of a training step.

    Args:
        config: `EmbBertConfig`.
        length: Tokens a sequence.
        batch_tokens: Tokens a batch.
        whole_words: As in `corpus.BatchOptions`.
        warm_up: Steps before timing; the first ones trace the graphs.
        repeats: Steps timed.

    Raises:
        CorpusError: if the sequence or the batch is too short.
    """
    random = np.random.default_rng(0)
    count = max(40 * length, 4 * batch_tokens)
    word_starts = random.random(count) < 0.8
    text = corpus.Corpus(
        random.integers(SEP + 1, config.vocab_size, count, dtype=np.int32),
        word_starts,
        word_starts & (random.random(count) < 0.05),
    )
    steps = warm_up + repeats
    options = corpus.BatchOptions(batch_tokens, (length,), whole_words)
    batches = corpus.Batches(text, config.vocab_size, steps, options)
    rows = batches.rows(0)
    trainer = pretrain.Trainer(config, pretrain.Schedule(steps), tf.distribute.get_strategy())
    model = trainer.model

    @tf.function
    def forward(batch):
        return tf.reduce_sum(model.backbone(batch[0]))

    @tf.function
    def with_softmax(batch):
        return pretrain.losses(model, batch, rows)[0]

    @tf.function
    def with_backward(batch):
        with tf.GradientTape() as tape:
            loss, _ = pretrain.losses(model, batch, rows)
        gradients = tape.gradient(loss, model.trainable_variables)
        return [tf.reduce_sum(tf.convert_to_tensor(gradient)) for gradient in gradients]

    made = []

    def make(step):
        made.append(dataclasses.astuple(batches.part(step)))

    parts = {
        "input": make,
        "forward": lambda step: forward(made[step]),
        "softmax": lambda step: with_softmax(made[step]),
        "backward": lambda step: with_backward(made[step]),
        "step": lambda step: trainer.train(made[step], rows),
    }
    times = dict.fromkeys(parts, float("inf"))
    for step in range(steps):
        # The parts take turns, so that a busy spell of the machine does not hit one of them alone.
        for name, run in parts.items():
            milliseconds = _time(run, step)
            if step >= warm_up:
                times[name] = min(times[name], milliseconds)
    return Costs(
        batch_input=times["input"],
        forward=times["forward"],
        softmax=times["softmax"] - times["forward"],
        backward=times["backward"] - times["softmax"],
        optimizer=times["step"] - times["backward"],
        step=times["step"],
        tokens=rows * length,
    )


def _time(run, step):
    """Returns the milliseconds that `run(step)` takes, until its results are there."""
    began = time.perf_counter()
    for value in tf.nest.flatten(run(step)):
        if tf.is_tensor(value):
            value.numpy()
    return 1000 * (time.perf_counter() - began)


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_enum(
        "preset", "embbert", sorted(PRESETS), "Sizes of the model.", flag_values=values
    )
    flags.DEFINE_integer("length", 128, "Tokens a sequence.", lower_bound=8, flag_values=values)
    flags.DEFINE_integer("batch_tokens", 8192, "Tokens a batch.", lower_bound=8, flag_values=values)
    flags.DEFINE_bool(
        "whole_words", False, "Mask all tokens of a word or none.", flag_values=values
    )
    flags.DEFINE_integer("warm_up", 2, "Steps before timing.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("repeats", 7, "Steps timed.", lower_bound=1, flag_values=values)


def main(_, values=flags.FLAGS):
    """Command line."""
    tf.get_logger().setLevel("ERROR")
    config = PRESETS[values.preset]
    if values.length > config.max_length:
        sys.exit(
            f"pretrain_benchmark: --length={values.length} is above the model's longest, "
            f"{config.max_length}"
        )
    try:
        costs = measure(
            config,
            values.length,
            values.batch_tokens,
            values.whole_words,
            values.warm_up,
            values.repeats,
        )
    except corpus.CorpusError as error:
        sys.exit(f"pretrain_benchmark: {error}")
    print(
        f"{values.preset}, {costs.tokens} tokens a step in sequences of {values.length}, "
        f"TensorFlow {tf.__version__}, {len(tf.config.list_physical_devices('GPU'))} GPUs"
    )
    for name in ("forward", "softmax", "backward", "optimizer", "step"):
        value = getattr(costs, name)
        print(f"{name:<10} {value:9.1f} ms  {100 * value / costs.step:5.1f} %")
    share = 100 * costs.batch_input / costs.step
    print(f"{'input':<10} {costs.batch_input:9.1f} ms  {share:5.1f} % (beside the model)")
    print(f"{1000 * costs.tokens / costs.step:,.0f} tokens/s")


if __name__ == "__main__":
    define_flags()
    app.run(main)
