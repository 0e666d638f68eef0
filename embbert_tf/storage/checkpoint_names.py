"""Names of tensors: what stands in front of the published ones is found and taken off."""

import collections
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from embbert_tf import errors

# What PyTorch puts around a module, at any depth.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PRETRAINING_HEADS = ("mlm_classifier", "nsp_classifier")
_BACKBONE = re.compile(
    r"((?:.*\.)?)(?:embedder\.(?:token|tok_expander|position|pos_expander|sentence)"
    r"|norms\.\d+|attentions\.\d+\.(?:query|att_output|conv1d|contract))\.(?:weight|bias)"
)


@dataclasses.dataclass(frozen=True)
class KnownNames:
    """What the tensors of a file are called in the published checkpoints.

    Attributes:
        names: Name in the file to published name.
        prefix: What stands in front of the names in the file; empty if nothing does.
    """

    names: dict[str, str]
    prefix: str


def known_names(names: Iterable[str]) -> KnownNames:
    """Takes off what stands in front of the published names.

    Wrappers of PyTorch go wherever they stand. Of the rest, whatever precedes `embedder.…`,
    `norms.…` and `attentions.…` becomes `model.` beside a classifier, or nothing without one.

    Example:
    ```python
    from embbert_tf.storage.checkpoint_names import known_names

    known_names(["module.model.norms.0.weight"])
    # KnownNames({"module.model.norms.0.weight": "model.norms.0.weight"}, "module.")
    ```

    Args:
        names: Of all tensors in the file.

    Returns:
        The published names; names that are none stay, but for a prefix that all share.
    """
    bare = {
        name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in names
    }
    matches = {name: match for name in bare if (match := _BACKBONE.fullmatch(bare[name]))}
    if not matches:
        return KnownNames(bare, "")
    fronts = collections.Counter(match[1] for match in matches.values())
    front = fronts.most_common(1)[0][0]
    outer, inner = _replacement(front, bare.values())
    known = {}
    for name, short in bare.items():
        if short.startswith(front):
            known[name] = inner + short[len(front) :] if front != outer else short[len(front) :]
        else:
            known[name] = short.removeprefix(outer)
    # As the file has it, wrappers included.
    example = next(name for name, match in matches.items() if match[1] == front)
    target = known[example]
    prefix = example.removesuffix(target)
    if prefix == example:  # A wrapper within the name: say all that precedes its last part.
        prefix = example[: example.index(target.removeprefix("model.").split(".")[0])]
    return KnownNames(known, prefix)


def _replacement(front: str, names: Collection[str]) -> tuple[str, str]:
    """Returns what precedes a classifier's names, and what takes the place of `front`.

    Args:
        front: What precedes the backbone's names, wrappers left out.
        names: Of all tensors, likewise.
    """
    # The classifier lies beside the backbone or further out.
    steps = [0, *(at + 1 for at, letter in enumerate(front) if letter == ".")]
    heads = [
        front[:step]
        for step in reversed(steps)
        if any(name.startswith(f"{front[:step]}classifier.") for name in names)
    ]
    within_model = front == "model." or front.endswith(".model.")
    outer = heads[0] if heads else front.removesuffix("model.") if within_model else front
    return outer, "model." if within_model or (heads and front) else ""


def published_state(
    state: Mapping[str, np.ndarray], report: Callable[[str], None] = lambda line: None
) -> dict[str, np.ndarray]:
    """Returns the state under the published names, without heads of pre-training.

    Args:
        state: From `checkpoint_reader.read_state`.
        report: Called with a sentence on a prefix that was taken off, and on heads left out.

    Raises:
        CheckpointError: Two tensors come to have one name.
    """
    known = known_names(state)
    twice = [name for name, count in collections.Counter(known.names.values()).items() if count > 1]
    if twice:
        both = [name for name in state if known.names[name] == twice[0]]
        raise errors.CheckpointError(
            f"{' and '.join(both)} are both {twice[0]}; leave one out with --ignore={both[-1]}"
        )
    if known.prefix:
        report(f"names begin with '{known.prefix}', which is taken off")
    heads = [
        head
        for head in _PRETRAINING_HEADS
        if any(name.startswith(f"{head}.") for name in known.names.values())
    ]
    if heads:
        report(f"{' and '.join(heads)} served pre-training and are left out")
    return {
        known.names[name]: value
        for name, value in state.items()
        if known.names[name].split(".")[0] not in _PRETRAINING_HEADS
    }
