"""Measures the range of every activation that will be int8 on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.model import special_tokens
from embbert_tf.quantization import folding

# Values kept of each activation: enough for its shape, small enough for any model.
_KEPT = 1 << 17
_MSE_VALUES = 20000  # Of them so many are tried with every range.
SCORE_DEPTH = folding.SCORE_DEPTH
# Of a row's scale its largest matters most, and two logits cut alike would tie.
NEVER_CUT = ("ms", "r", "logits")


class _Collector:
    """Extremes of an activation and a thinned record of its values.

    Thinned at random: every k-th value would be those of the same few channels all the time.
    """

    def __init__(self):
        self.low, self.high = np.inf, -np.inf
        self.stride = 1
        self.rng = np.random.default_rng(0)
        self.values: list[np.ndarray] = []
        self.count = 0

    def add(self, array: np.ndarray) -> None:
        flat = np.asarray(array, np.float32).reshape(-1)
        if not flat.size:
            return
        self.low, self.high = min(self.low, flat.min()), max(self.high, flat.max())
        kept = flat
        if self.stride > 1:
            wanted = int(flat.size / self.stride + self.rng.random())
            kept = flat[self.rng.integers(0, flat.size, wanted)]
        self.values.append(kept)
        self.count += kept.size
        while self.count > _KEPT:
            thinned = _draw(np.concatenate(self.values), self.count // 2, self.rng)
            self.values, self.count, self.stride = [thinned], thinned.size, self.stride * 2


def _draw(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `count` of the values, in no order; all if there are no more."""
    return values[rng.permutation(values.size)[:count]]


def _mse_range(values: np.ndarray, low: float, high: float, symmetric: bool) -> tuple:
    """Shrinks [low, high] towards 0 while the mean squared error of int8 falls."""
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    sample = _draw(values, _MSE_VALUES, np.random.default_rng(0))
    best, best_error = (low, high), np.inf
    for share in np.linspace(1.0, 0.3, 36):
        for low_share in (share,) if symmetric else {share, min(1.0, share * 1.25), 1.0}:
            a, b = min(low * low_share, 0.0), max(high * share, 0.0)
            scale = max(b - a, 1e-9) / (254 if symmetric else 255)
            quantized = np.clip(np.round(sample / scale), np.round(a / scale), np.round(b / scale))
            error = float(np.mean((quantized * scale - sample) ** 2))
            if error < best_error:
                best, best_error = (a, b), error
    return best


class RangeMeter:
    """Collects activations of a folded model, sequence by sequence.

    Example:
    ```python
    import embbert_tf
    from embbert_tf.quantization import folding, ranges

    classifier = embbert_tf.EmbBertClassifier.from_preset("test", num_labels=3)
    meter = ranges.RangeMeter(folding.fold(classifier))
    for ids in ([2, 7, 9], [2, 17, 99, 31]):
        meter.run(ids)
    low, high = meter.ranges("mse")["logits"]
    ```

    Args:
        model: The folded float model.
    """

    def __init__(self, model: Any):
        self._model = model
        self._collected: dict[str, _Collector] = {}
        self._least_peak: dict[str, float] = {}

    def run(self, ids: Sequence[int]) -> None:
        """Runs one sequence of token ids (no padding) and records every activation."""
        folding.forward(self._model, ids, tap=self._tap)

    def _tap(self, name: str, array: np.ndarray) -> None:
        self._collected.setdefault(name, _Collector()).add(array)
        if name.startswith("scores"):
            peak = float(np.min(np.max(array, axis=-1)))
            self._least_peak[name] = min(self._least_peak.get(name, np.inf), peak)

    def score_floor(self, name: str) -> float:
        """Returns the score under which nothing of activation `name` matters."""
        return self._least_peak[name] - SCORE_DEPTH

    def ranges(self, method: str) -> dict[str, tuple[float, float]]:
        """Returns (low, high) of every activation.

        The lower end of `scores` is, whatever the method, what softmax can still show.

        Args:
            method: "minmax" for all that was seen, or "mse" for the least mean squared error of
                int8; those of `NEVER_CUT` hold all that was seen.

        Raises:
            ValueError: An unknown method, or nothing was run.
        """
        if not self._collected:
            raise ValueError("no sequence was run: calibration needs at least one sample")
        result = {}
        for name, collector in self._collected.items():
            low, high = float(collector.low), float(collector.high)
            values = np.concatenate(collector.values)
            symmetric = folding.kind(name) in folding.SYMMETRIC
            if name.startswith("scores"):
                # Nothing but the top of the range matters in a softmax.
                low = self.score_floor(name)
            elif method == "mse":
                if folding.kind(name) not in NEVER_CUT:
                    low, high = _mse_range(values, low, high, symmetric)
            elif method != "minmax":
                raise ValueError(f"no range method '{method}'; there are minmax, mse")
            result[name] = (float(low), float(high))
        return result


def check_finite(classifier: Any) -> None:
    """Raises OptionError if a weight of a Keras model holds a value that is no finite number."""
    for weight in classifier.weights:
        if not np.isfinite(weight.numpy()).all():
            raise errors.OptionError(
                f"the classifier's {weight.name} holds a value that is no finite number: its "
                "training diverged; train it anew with a lower learning rate"
            )


def sequences_of(ids: Any, config: Any) -> list[list[int]]:
    """Checks a sample of token ids and takes the padding off.

    Args:
        ids: An integer array (texts, n) with `[PAD]` = 0 at the end, or texts of different lengths
            as a list of lists, of arrays, or a `tf.RaggedTensor`.
        config: Sizes of the model that is to read them: its `max_length` and `vocab_size`.

    Returns:
        Lists of token ids, without padding.

    Raises:
        DataError: There is no text, or one is not such a row, empty, too long, or has an id that
            the model lacks; the message says which.
    """
    try:
        rows = list(ids.to_list() if hasattr(ids, "to_list") else ids)
    except TypeError as error:
        raise errors.DataError(
            f"the sample is a {type(ids).__name__}, not an array or a list of lists of token ids"
        ) from error
    if not rows:
        raise errors.DataError("the sample holds no text; give token ids of some hundred")
    return [
        _sequence(f"text {number} of the sample", row, config)
        for number, row in enumerate(rows, start=1)
    ]


def _sequence(where: str, row: Any, config: Any) -> list[int]:
    try:
        array = np.asarray(row)
    except ValueError:  # Rows of rows that differ in length.
        array = np.empty((0, 0))
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise errors.DataError(f"{where} is not a row of token ids")
    real = np.flatnonzero(array != special_tokens.PAD)
    if not real.size:
        raise errors.DataError(f"{where} has no token id beside [PAD]")
    array = array[: real[-1] + 1]
    if real.size < array.size:
        raise errors.DataError(f"{where} has [PAD] before its end")
    if array.size > config.max_length:
        raise errors.DataError(
            f"{where} has {array.size} token ids; the model takes {config.max_length} at most"
        )
    for token in array[(array < 0) | (array >= config.vocab_size)]:
        raise errors.DataError(
            f"{where} has the token id {token}; the model's go to {config.vocab_size - 1}"
        )
    return array.tolist()
