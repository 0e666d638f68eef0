"""Checkpoints of the published layout, and the logits that the formulas give for them."""

import numpy as np

from embbert_tf.model.special_tokens import PAD, SEP

V, S, D, R, N, K, E, LABELS = 96, 24, 8, 4, 3, 5, 2, 3
EPSILON = np.finfo(np.float32).eps


def published_state(seed=0, labels=LABELS):
    """Random weights under the published names; PyTorch's shapes."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.4, shape).astype(np.float32)

    prefix = "model." if labels else ""
    state = {
        "embedder.token.weight": draw(V, R),
        "embedder.tok_expander.weight": draw(D, R),
        "embedder.position.weight": draw(S, R),
        "embedder.pos_expander.weight": draw(D, R),
        "embedder.sentence.weight": draw(3, D),
    }
    state["embedder.token.weight"][PAD] = 0
    state["embedder.sentence.weight"][0] = 0
    for i in range(N):
        state[f"norms.{i}.weight"] = 1 + draw(D)
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            state[f"attentions.{i}.{name}"] = draw(D)
        for name, shape in (
            ("query", (D, D)),
            ("att_output", (D, D)),
            ("conv1d", (E * D, 1, K)),
            ("contract", (D, E * D)),
        ):
            state[f"attentions.{i}.{name}.weight"] = draw(*shape)
            state[f"attentions.{i}.{name}.bias"] = draw(shape[0])
    state = {prefix + name: value for name, value in state.items()}
    if labels:
        state["classifier.weight"] = draw(labels, D)
        state["classifier.bias"] = draw(labels)
    return state


def numpy_logits(state, ids):
    """The formulas, literally, in float64; `ids` is one sequence, padding at its end."""
    w = {name.removeprefix("model."): value.astype(np.float64) for name, value in state.items()}
    n = len(ids)
    seen, segments = False, []
    for token in ids:
        seen = seen or token == SEP
        segments.append(0 if token == PAD else 2 if seen else 1)
    x = w["embedder.token.weight"][ids] @ w["embedder.tok_expander.weight"].T
    x = x + w["embedder.position.weight"][:n] @ w["embedder.pos_expander.weight"].T
    x = x + w["embedder.sentence.weight"][segments]
    real = np.asarray(ids) != PAD
    for i in range(N):
        a = f"attentions.{i}."
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * w[f"norms.{i}.weight"]
        scores = (x @ w[a + "query.weight"].T + w[a + "query.bias"]) @ x.T / np.sqrt(D)
        scores = np.exp(scores - scores[:, real].max(-1, keepdims=True)) * real
        attended = scores / scores.sum(-1, keepdims=True) @ x
        attended = attended @ w[a + "att_output.weight"].T + w[a + "att_output.bias"]
        y = np.empty((n, E * D))
        for t in range(n):
            for channel in range(E * D):
                y[t, channel] = w[a + "conv1d.bias"][channel] + sum(
                    w[a + "conv1d.weight"][channel, 0, K - 1 - back] * x[t - back, channel // E]
                    for back in range(min(K, t + 1))
                )
        y = y / (1 + np.exp(-y))
        y = y @ w[a + "contract.weight"].T + w[a + "contract.bias"]
        alpha = np.exp(w[a + "lambda_q1"] @ w[a + "lambda_k1"])
        beta = np.exp(w[a + "lambda_q2"] @ w[a + "lambda_k2"])
        x = alpha * attended - beta * y
    if "classifier.weight" not in w:
        return x
    return x[0] @ w["classifier.weight"].T + w["classifier.bias"]


SEQUENCES = [
    [2, 7, 9, 11, 7, 30, 95, 6],
    [2, 50],
    [2, 17, 4, 18, 19, 0, 0, 0],
    [2, *range(5, 5 + S - 1)],
]
