"""Random int8 models for the kernels' tests: every shape class, typical and extreme values."""

import dataclasses

import numpy as np

from converters.kernels.int8_model import Int8Block, Int8Model


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a random model."""

    d: int = 128
    r: int = 16
    blocks: int = 2
    k: int = 32
    e: int = 1
    vocab_size: int = 300
    max_length: int = 256
    labels: int = 7
    last_taps: int = 1


def random_model(shape: Shape, rng: np.random.Generator, extreme: bool = False) -> Int8Model:
    """An int8 model with scales like those of a trained one.

    Args:
      shape: Its sizes.
      rng: Source of all randomness.
      extreme: Weights at the ends of their range, activations that saturate at both ends.
    """

    def weights(*size):
        if extreme:
            return rng.choice(np.array([-127, 127], np.int8), size)
        return np.clip(np.round(rng.normal(0, 40, size)), -127, 127).astype(np.int8)

    def zero():
        return int(rng.choice([-128, 127])) if extreme else int(rng.integers(-40, 41))

    gain = 12.0 if extreme else 1.0  # how far typical values reach beyond the int8 range
    std = 127.0 if extreme else 40.0
    d, e = shape.d, shape.e
    x_scale, x_zero = float(rng.uniform(0.01, 0.05)), zero()
    first = (x_scale, x_zero)
    blocks = []
    for layer in range(shape.blocks):
        xhat_scale = 1.0 / 32
        taps = shape.last_taps if layer == shape.blocks - 1 else shape.k
        q_scale = float(rng.uniform(0.5, 1.5)) / 40 / (3.0 if extreme else d**0.5)
        wq_scale = q_scale * 40 * gain / (32 * std * d**0.5 * xhat_scale)
        y_scale = 3.0 / 127
        conv_scale = (y_scale * 40 * gain / (32 * std * taps**0.5 * xhat_scale)) * rng.uniform(
            0.5, 2, e * d
        )
        s_scale, s_zero = 3.3 / 255, -107
        out_scale, out_zero = float(rng.uniform(0.01, 0.05)), zero()
        wv_scale = out_scale * 30 * gain / (32 * std * d**0.5 * xhat_scale)
        wz_scale = out_scale * 30 * gain / (40 * std * (e * d) ** 0.5 * s_scale)
        blocks.append(
            Int8Block(
                d=d,
                e=e,
                k=shape.k,
                x_scale=x_scale,
                x_zero=x_zero,
                xhat_scale=xhat_scale,
                wq=weights(d, d),
                wq_scale=np.float32(wq_scale),
                bq=rng.integers(-20000, 20001, d).astype(np.int32),
                q_scale=q_scale,
                q_zero=zero(),
                wv=weights(d, d),
                wv_scale=np.float32(wv_scale),
                conv=weights(taps, e * d),
                conv_scale=conv_scale.astype(np.float32),
                conv_bias=rng.integers(-5000, 5001, e * d).astype(np.int32),
                y_scale=y_scale,
                y_zero=zero(),
                s_scale=s_scale,
                s_zero=s_zero,
                wz=weights(d, e * d),
                wz_scale=np.float32(wz_scale),
                bz=rng.integers(-20000, 20001, d).astype(np.int32),
                out_scale=out_scale,
                out_zero=out_zero,
            )
        )
        x_scale, x_zero = out_scale, out_zero
    embed_in_scale = 1.0 / 40
    embed_w_scale = first[0] * 40 * gain / (40 * std * (2 * shape.r) ** 0.5 * embed_in_scale)
    head_scale = 40 * gain / (40 * std * d**0.5)
    return Int8Model(
        vocab_size=shape.vocab_size,
        r=shape.r,
        max_length=shape.max_length,
        d=d,
        labels=shape.labels,
        pair=True,
        token=weights(shape.vocab_size, shape.r),
        position=weights(shape.max_length, shape.r),
        embed_in_scale=embed_in_scale,
        embed_w=weights(d, 2 * shape.r),
        embed_w_scale=(embed_w_scale * rng.uniform(0.5, 2, d)).astype(np.float32),
        embed_bias=rng.integers(-8000, 8001, (2, d)).astype(np.int32),
        blocks=tuple(blocks),
        head_w=weights(shape.labels, d),
        head_w_scale=np.float32(head_scale / out_scale * 0.1),
        head_bias=rng.integers(-20000, 20001, shape.labels).astype(np.int32),
        logits_scale=0.1,
        logits_zero=int(rng.integers(-20, 21)),
    )


def coded(model: Int8Model, rng: np.random.Generator, token_bits: int = 4) -> Int8Model:
    """Replaces weights of a random model by factors times codes of few bits.

    Args:
      model: Of `random_model`.
      rng: Source of all randomness.
      token_bits: Of the token table: 2, 3 or 4.
    """

    def codes(matrix):
        values = rng.integers(-7, 8, matrix.shape)
        values[:, 0] = rng.choice([-7, 7], len(matrix))  # Needs all the bits.
        return values

    def matrix(weights):
        return (codes(weights) * rng.integers(1, 19, (len(weights), 1))).astype(np.int8)

    half = 1 << token_bits - 1
    table = rng.integers(-half, half, model.token.shape)
    table[0, 0] = -half
    # Codes are smaller than int8: the scales keep the activations where they were.
    growth = np.float32(np.std(model.embed_w) / 4.3)
    head_growth = np.float32(np.std(model.head_w) / 4.3)
    return dataclasses.replace(
        model,
        token=(table * (127 // half)).astype(np.int8),
        embed_w=codes(model.embed_w).astype(np.int8),
        embed_w_scale=model.embed_w_scale * growth,
        blocks=tuple(
            dataclasses.replace(
                block, wq=matrix(block.wq), wv=matrix(block.wv), wz=matrix(block.wz)
            )
            for block in model.blocks
        ),
        head_w=codes(model.head_w).astype(np.int8),
        head_w_scale=model.head_w_scale * head_growth,
    )


def random_input(model: Int8Model, n: int, rng: np.random.Generator):
    """Token ids (n,) and segments (n,): 1, then 2 from a random place on."""
    ids = rng.integers(0, model.vocab_size, n)
    segments = np.where(np.arange(n) < rng.integers(1, n + 1), 1, 2)
    return ids, segments
