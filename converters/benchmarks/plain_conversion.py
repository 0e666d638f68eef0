"""Converts a run with nothing but `tf.lite.TFLiteConverter`: the rival of the portable graph.

TensorFlow's full-int8 conversion with its defaults: int32 token ids in, int8 logits out, the
padding mask taken from the ids. The forward pass is written by the formulas of arXiv 2502.10001, so
that nothing of the portable graph's craft is in it.

Example:
  python -m converters.benchmarks.plain_conversion --run=build/demo/run --calibration=train.csv \
      --max_length=64 --output=plain.tflite
"""

import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from calibration import samples
from converters.evaluation import labelled_rows
from converters.tflite import model_folder
from embbert_tf import cli, errors
from embbert_tf.data import encoding, files, tokenizer
from embbert_tf.storage import run_folder

# Added to the score of a padding key: exp(-20) is nothing, yet int8 scores keep some resolution.
_MASKED = 20.0


def _forward(model: Any, ids: Any, segment_ids: Any = None) -> Any:
    """Logits (1, L) of int32 ids (1, S), by the formulas of arXiv 2502.10001, section 4."""
    import tensorflow as tf

    from embbert_tf.model import rms_norm

    embedder, length = model.backbone.embedder, ids.shape[1]
    mask = (tf.cast(tf.minimum(ids, 1), tf.float32) - 1.0) * _MASKED
    x = tf.gather(embedder.token, ids) @ embedder.token_expander
    x += embedder.position[:length] @ embedder.position_expander
    if segment_ids is None:
        x += embedder.segment[1]
    else:
        x += tf.gather(embedder.segment, segment_ids)
    for block in model.backbone.blocks:
        mean = tf.reduce_mean(x * x, axis=-1, keepdims=True)
        x = x * tf.math.rsqrt(mean + rms_norm.EPSILON) * block.norm.gain
        first = x[:, :1] if block.first_row_only else x

        attention = block.attention
        query = first @ attention.query_kernel + attention.query_bias
        scores = tf.matmul(query, x, transpose_b=True) * (x.shape[-1] ** -0.5)
        weights = tf.nn.softmax(scores + mask[:, tf.newaxis])
        attended = (weights @ x) @ attention.output_kernel + attention.output_bias

        branch = block.convolution
        if block.first_row_only:
            # Row 0 sees itself alone.
            y = first[..., tf.newaxis] * branch.conv_kernel[-1]
            y = tf.reshape(y, [1, 1, -1])
        else:
            padding = [[0, 0], [branch.kernel_size - 1, 0], [0, 0]]
            y = tf.nn.depthwise_conv2d(
                tf.pad(x, padding)[:, tf.newaxis],
                branch.conv_kernel[tf.newaxis],
                [1, 1, 1, 1],
                "VALID",
            )[:, 0]
        y = tf.nn.silu(y + branch.conv_bias) @ branch.contract_kernel + branch.contract_bias
        x = block.attention_factor() * attended - block.convolution_factor() * y
    return x[:, 0] @ model.head.kernel + model.head.bias


def convert(
    model: Any, sequences: Iterable[Sequence[int]], max_length: int, pair: bool = False
) -> bytes:
    """Returns the plain full-int8 `.tflite` of a Keras classifier.

    Args:
        model: `EmbBertClassifier`.
        sequences: Representative token ids, each at most `max_length` long.
        max_length: Tokens of the graph's input.
        pair: Whether the graph takes segment ids as a second input.

    Raises:
        OptionError: `max_length` exceeds the model's positions.
    """
    import tensorflow as tf

    limit = model.config.max_length
    if not 1 <= max_length <= limit:
        raise errors.OptionError(
            f"--max_length={max_length} is not within 1..{limit}, the model's own"
        )
    names = ["ids", "segment_ids"] if pair else ["ids"]
    signature = [tf.TensorSpec([1, max_length], tf.int32, name) for name in names]
    function = tf.function(lambda *inputs: _forward(model, *inputs), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], model
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_output_type = tf.int8

    def representative() -> Iterator[list[np.ndarray]]:
        for ids in sequences:
            inputs = [model_folder.pad(list(ids), max_length)]
            if pair:
                inputs.append(model_folder.pad(tokenizer.segment_ids(ids), max_length))
            yield inputs

    converter.representative_dataset = representative
    with warnings.catch_warnings():
        # "Statistics for quantized inputs were expected": ids are not quantized.
        warnings.simplefilter("ignore")
        return converter.convert()


def convert_run(
    run: run_folder.Run, calibration: str, max_length: int = 0, count: int = 256, seed: int = 0
) -> bytes:
    """Returns the plain full-int8 `.tflite` of a trained run.

    Args:
        run: The run.
        calibration: CSV to draw representative samples from.
        max_length: Tokens of the input; 0: the model's maximum.
        count: Representative samples.
        seed: Seed of the samples.

    Raises:
        DataError: The CSV cannot be used.
        OptionError: The length exceeds the model's.
    """
    examples = labelled_rows.read_sample(calibration)
    labelled_rows.check_pairs(examples, run.pair, calibration)
    max_length = max_length or run.config.max_length
    sequences = encoding.encode_all(run.tokenizer, examples, run.pair, max_length)
    chosen = samples.pick(examples, [len(s) for s in sequences], count, seed)
    return convert(run.model, [sequences[i] for i in chosen], max_length, run.pair)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "run": "Run folder that training wrote.",
        "calibration": "CSV to draw representative samples from.",
        "output": "The .tflite to write.",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    numbers = {
        "max_length": (0, 0, "Tokens of the input; 0: the model's maximum."),
        "samples": (256, 1, "Representative samples."),
        "sample_seed": (0, 0, "Seed of the samples."),
    }
    for name, (default, least, meaning) in numbers.items():
        flags.DEFINE_integer(name, default, meaning, lower_bound=least, flag_values=values)
    flags.mark_flags_as_required(["run", "calibration", "output"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Converts one run."""
    run = run_folder.load_run(values.run)
    output = pathlib.Path(values.output)
    files.check_folder(output.parent)
    tflite = convert_run(
        run, values.calibration, values.max_length, values.samples, values.sample_seed
    )
    files.make_folder(output.parent)
    files.write_bytes(output, tflite)
    print(f"{len(tflite)} bytes -> {output}")


if __name__ == "__main__":
    cli.run(define_flags, main)
