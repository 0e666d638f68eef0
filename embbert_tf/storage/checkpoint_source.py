"""The tensors of a checkpoint, handed out one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from embbert_tf import errors


def prefix(state: Mapping[str, np.ndarray]) -> str:
    """Returns what stands in front of a backbone's names beside a classifier."""
    return "model." if any(name.startswith("model.") for name in state) else ""


def has_classifier(state: Mapping[str, np.ndarray]) -> bool:
    """Whether there is a classifier beside the backbone."""
    return any(name.startswith("classifier.") for name in state)


def num_labels(state: Mapping[str, np.ndarray]) -> int:
    """Returns the number of a classifier's logits; 1 where `fill_head` will refuse it."""
    weight = state.get("classifier.weight")
    return max(weight.shape[0], 1) if weight is not None and weight.ndim == 2 else 1


class Source:
    """Hands out tensors by name, and keeps account of what was missing, misshapen and surplus."""

    def __init__(self, state: Mapping[str, np.ndarray], prefix: str):
        self._state = state
        self._prefix = prefix
        self._taken: set[str] = set()
        self._problems: list[str] = []

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Returns a shape to infer a size from.

        Raises:
            CheckpointError: The tensor is missing or of another rank.
        """
        name = self._prefix + name
        if name not in self._state:
            raise errors.CheckpointError(f"missing {name}")
        shape = self._state[name].shape
        if len(shape) != rank:
            raise errors.CheckpointError(
                f"misshapen {name}: {list(shape)}, expected {rank} dimensions"
            )
        return shape

    def take(self, name: str, shape: tuple[int, ...], prefix: str | None = None) -> np.ndarray:
        """Returns a tensor, or zeros if it is missing or misshapen (`finish` then raises)."""
        name = (self._prefix if prefix is None else prefix) + name
        self._taken.add(name)
        value = self._state.get(name)
        if value is None:
            self._problems.append(f"missing {name}")
        elif value.shape != shape:
            self._problems.append(f"misshapen {name}: {list(value.shape)}, expected {list(shape)}")
        elif not np.isfinite(value).all():
            self._problems.append(f"not finite {name}")
        else:
            return value
        return np.zeros(shape, np.float32)

    def fill_dense(self, name: str, kernel: Any, bias: Any, prefix: str | None = None) -> None:
        """Fills a dense layer from `<name>.weight` and `<name>.bias`.

        Args:
            name: Of the layer in the checkpoint.
            kernel: Variable (in, out); PyTorch keeps it as (out, in).
            bias: Variable (out,).
            prefix: As of `take`.
        """
        inputs, outputs = kernel.shape
        kernel.assign(self.take(f"{name}.weight", (outputs, inputs), prefix).T)
        bias.assign(self.take(f"{name}.bias", (outputs,), prefix))

    def fill_head(self, head: Any) -> None:
        """Fills a classifier's Dense layer, which lies beside the backbone."""
        self.fill_dense("classifier", head.kernel, head.bias, "")

    def finish(self) -> None:
        """Raises CheckpointError, naming every tensor that was not as it should be."""
        surplus = [f"surplus {name}" for name in self._state if name not in self._taken]
        if self._problems or surplus:
            raise errors.CheckpointError("; ".join(self._problems + surplus))
