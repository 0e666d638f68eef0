"""Converts a run with nothing but `tf.lite.TFLiteConverter`: the rival of the portable graph.

TensorFlow's full-int8 conversion with its defaults: int32 token ids in, int8 logits out, the
padding mask taken from the ids; see `converters/benchmarks/plain_conversion.py`.

Example:
  python -m converters.benchmarks.plain_conversion --run=build/demo/run --calibration=train.csv \
      --max_length=64 --output=plain.tflite
"""

import pathlib
import sys
import warnings
from collections.abc import Iterable, Sequence

from absl import app, flags

from calibration import samples
from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files, tokenizer
from embbert_tf.storage import run_folder

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
        run = run_folder.load_run(_RUN.value)
        examples = list(examples_lib.read_examples(_CALIBRATION.value))
        if not examples:
            raise errors.DataError(f"{_CALIBRATION.value}: no rows to calibrate on")
        max_length = _MAX_LENGTH.value or run.config.max_length
        sequences = [
            tokenizer.encode(run.tokenizer, e.text, e.text_pair if run.pair else None, max_length)
            for e in examples
        ]
        chosen = samples.pick(examples, [len(s) for s in sequences], _COUNT.value, _SEED.value)
        picked = [sequences[i] for i in chosen]
        tflite = convert(run.model, picked, max_length, run.pair)
        output = pathlib.Path(_OUTPUT.value)
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(output, lambda path: path.write_bytes(tflite))
    except (errors.RunError, errors.DataError, OSError, ValueError) as error:
        sys.exit(f"plain_conversion: {error}")
    print(f"{len(tflite)} bytes -> {output}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["run", "calibration", "output"])
    app.run(main)

# Added to the score of a padding key: exp(-20) is nothing, yet int8 scores keep some resolution.
_MASKED = 20.0


def _forward(model, ids, segment_ids=None):
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
    model, sequences: Iterable[Sequence[int]], max_length: int, pair: bool = False
) -> bytes:
    """Returns the plain full-int8 `.tflite` of a Keras classifier.

    Args:
      model: `EmbBertClassifier`.
      sequences: Representative token ids, each at most `max_length` long.
      max_length: Tokens of the graph's input.
      pair: Whether the graph takes segment ids as a second input.

    Raises:
      ValueError: `max_length` exceeds the model's positions, or the converter fails.
    """
    import tensorflow as tf

    limit = model.config.max_length
    if not 1 <= max_length <= limit:
        raise ValueError(f"--max_length={max_length} is not within 1..{limit}, the model's own")
    names = ["ids", "segment_ids"] if pair else ["ids"]
    signature = [tf.TensorSpec([1, max_length], tf.int32, name) for name in names]
    function = tf.function(lambda *inputs: _forward(model, *inputs), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], model
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_output_type = tf.int8

    def representative():
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
