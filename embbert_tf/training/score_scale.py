"""A regression learns in units of its scores' own spread, so that any scale will do.

Scores of 0..5 and of 0..1,000 are the same task. The loss compares (score - mean) / spread, and
mean and spread go into the head afterwards: the model that is saved answers in the user's unit.
"""

import dataclasses
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.data.files import PathLike

_INT8_STEPS = 255
_FEWEST_STEPS = 8  # of int8 within a standard deviation, below which answers get coarse


@dataclasses.dataclass(frozen=True)
class ScoreScale:
    """Mean and standard deviation of the training scores, in their unit.

    Attributes:
        mean: What is 0 in standard units; 0 for a classifier.
        spread: What is 1 in standard units; 1 for a classifier.
    """

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, scores: np.ndarray, path: PathLike) -> "ScoreScale":
        """Measures scores.

        Args:
            scores: float64 (count,).
            path: Where they came from, for the message.

        Raises:
            DataError: They are all the same, so that there is nothing to learn.
        """
        if np.ptp(scores) == 0:
            raise errors.DataError(
                f"{path}: every row has the score {scores[0]:g}; a regression needs scores that "
                "differ"
            )
        return cls(float(np.mean(scores)), float(np.std(scores)))

    def standard(self, scores: np.ndarray) -> np.ndarray:
        """Returns scores in standard units, the shape of `scores`."""
        return (scores - self.mean) / self.spread

    def restored(self, scores: np.ndarray) -> np.ndarray:
        """Returns scores in the user's unit, the shape of `scores`."""
        return scores * self.spread + self.mean

    def standardize_head(self, head: Any) -> None:
        """Makes a dense layer that answers in the user's unit answer in standard units."""
        kernel, bias = head.get_weights()
        head.set_weights([kernel / self.spread, self.standard(bias)])

    def restore_head(self, head: Any) -> None:
        """Makes a dense layer that answers in standard units answer in the user's."""
        kernel, bias = head.get_weights()
        head.set_weights([kernel * self.spread, self.restored(bias)])


def coarse_in_int8(scores: np.ndarray) -> str | None:
    """Returns a sentence if int8 cannot tell apart what differs, as the scores lie far from 0.

    An int8 tensor of the device always spans 0, whatever it holds.

    Args:
        scores: float64 (count,), in the user's unit.
    """
    low, high = float(np.min(scores)), float(np.max(scores))
    step = (max(high, 0.0) - min(low, 0.0)) / _INT8_STEPS
    if step * _FEWEST_STEPS <= float(np.std(scores)):
        return None
    return (
        f"the scores lie between {low:g} and {high:g}, and int8 has to span 0 too, in steps of "
        f"{step:.3g}; for finer answers subtract about {(low + high) / 2:g} from every score"
    )
