"""Small random EmbBERTs, folded, and their portable graphs; shared by the converters' tests."""

import dataclasses

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from converters.portable import graph
from converters.tflite import model_folder, writer
from embbert_tf.data import tokenizer
from embbert_tf.model import special_tokens
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.quantization import folding, ranges

SMALL = EmbBertConfig(
    vocab_size=300, max_length=64, hidden_size=32, reduced_size=8, num_layers=3, kernel_size=5
)
WIDE = EmbBertConfig(
    vocab_size=200,
    max_length=48,
    hidden_size=16,
    reduced_size=4,
    num_layers=2,
    kernel_size=32,
    expansion=2,
)
ONE_LAYER = EmbBertConfig(
    vocab_size=100, max_length=32, hidden_size=16, reduced_size=4, num_layers=1, kernel_size=3
)
# A hidden size that the kernels take with channels of zeros behind it.
PADDED = EmbBertConfig(
    vocab_size=100,
    max_length=40,
    hidden_size=20,
    reduced_size=4,
    num_layers=3,
    kernel_size=5,
    expansion=3,
)
REFERENCE = EmbBertConfig()
INT16 = frozenset(graph.INT16_PARTS)


def random_folded(config: EmbBertConfig, labels: int = 5, seed: int = 0) -> folding.FoldedModel:
    """Random weights of the size that training leaves them at."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=1.0):
        return (rng.normal(size=shape) * scale).astype(np.float32)

    d, r, e, k = config.hidden_size, config.reduced_size, config.expansion, config.kernel_size
    blocks = tuple(
        folding.FoldedBlock(
            wq=normal(d, d, scale=1.5 / d),
            bq=normal(d, scale=0.05),
            wv=normal(d, d, scale=d**-0.5),
            conv=normal(k, e * d, scale=0.5 * k**-0.5),
            conv_bias=normal(e * d, scale=0.1),
            wz=normal(e * d, d, scale=(e * d) ** -0.5),
            bz=normal(d, scale=0.1),
        )
        for _ in range(config.num_layers)
    )
    return folding.FoldedModel(
        config=config,
        token=normal(config.vocab_size, r),
        position=normal(config.max_length, r, scale=0.2),
        segment=normal(3, d, scale=0.2),
        w_token=normal(r, d, scale=r**-0.5),
        w_position=normal(r, d, scale=r**-0.5),
        blocks=blocks,
        head_w=normal(d, labels, scale=d**-0.5),
        head_b=normal(labels, scale=0.1),
    )


def coded_folded(config: EmbBertConfig, labels: int = 5) -> folding.FoldedModel:
    """Random weights as training with 4 bits leaves them: codes times factors times `scales`."""
    folded, scales = random_folded(config, labels), {}

    def rounded(name, values, one_scale=True):
        largest = np.abs(values).max(axis=0) / 7
        unit = np.float32(largest.max() / 18) if one_scale else largest.astype(np.float32)
        steps = np.clip(np.round(largest / unit), 1, 18) * unit
        scales[name] = unit / np.float32(18 if name == "token" else 1)
        return (np.clip(np.round(values / steps), -7, 7) * steps).astype(np.float32)

    blocks = tuple(
        dataclasses.replace(
            block, **{w: rounded(f"{w}{i}", getattr(block, w)) for w in folding.DENSE}
        )
        for i, block in enumerate(folded.blocks)
    )
    token, head = (
        rounded(name, getattr(folded, field), one_scale=False)
        for name, field in (("token", "token"), ("head", "head_w"))
    )
    folded = dataclasses.replace(folded, token=token, blocks=blocks, head_w=head, scales=scales)
    expansion = rounded("embed", folded.scaled_expansion(), one_scale=False)
    token_scale, position_scale = folded.table_scales()
    return dataclasses.replace(
        folded,
        w_token=expansion[: token_scale.size] / token_scale[:, np.newaxis],
        w_position=expansion[token_scale.size :] / position_scale[:, np.newaxis],
    )


def random_sequences(config: EmbBertConfig, length: int, count: int = 8, seed: int = 0, pair=False):
    """Token ids without padding: one id alone, the full length, and lengths between."""
    rng = np.random.default_rng(seed)
    lengths = [1, length, *rng.integers(1, length + 1, max(count - 2, 0)).tolist()]
    result = []
    for n in lengths:
        ids = [
            special_tokens.CLS,
            *rng.integers(special_tokens.SEP + 1, config.vocab_size, n - 1).tolist(),
        ]
        if pair and n > 2:
            ids[int(rng.integers(1, n))] = special_tokens.SEP
        result.append(ids)
    return result


def build(folded: folding.FoldedModel, length: int, method: str = "minmax", **arguments):
    """The `PortableGraph`, calibrated on random sequences."""
    meter = ranges.RangeMeter(folded)
    for ids in random_sequences(folded.config, length, pair=arguments.get("pair", False)):
        meter.run(ids)
    return graph.PortableGraph(folded, meter.ranges(method), length, **arguments)


def to_bytes(built: graph.PortableGraph) -> bytes:
    return writer.write(built.graph)


def tflm_outputs(tflite: bytes, inputs: list[list[np.ndarray]]) -> list[np.ndarray]:
    """What TFLM answers; `inputs` has a list of input arrays for each inference."""
    interpreter = runtime.Interpreter.from_bytes(tflite, arena_size=8 << 20)
    result = []
    for arrays in inputs:
        for index, array in enumerate(arrays):
            interpreter.set_input(array, index)
        interpreter.invoke()
        result.append(np.array(interpreter.get_output(0)))
    return result


def tflm_logits(tflite: bytes, sequences, length: int, pair: bool = False) -> np.ndarray:
    inputs = []
    for ids in sequences:
        arrays = [model_folder.pad(list(ids), length)]
        if pair:
            arrays.append(model_folder.pad(tokenizer.segment_ids(ids), length))
        inputs.append(arrays)
    return np.stack([out.reshape(-1) for out in tflm_outputs(tflite, inputs)])
