"""Imports PyTorch weights of EmbBERT as a run or backbone folder.

    python -m embbert_tf.import_checkpoint --input=model.safetensors --tokenizer=tokenizer.json \
        --output=build/imported

Reads safetensors, and PyTorch state dictionaries (`.pt`, `.bin`) with PyTorch's weights-only
loader: neither can run code from the file. With a `classifier` in the file the result is a run
folder, without one a backbone folder for `train --init`.

Names may have a prefix, as `torch.nn.DataParallel` (`module.`), `torch.compile` (`_orig_mod.`) and
training frameworks write it: it is taken off and printed. Heads of pre-training are left out, which
is printed too, and so are buffers of integers such as `position_ids`.
"""

import collections
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable

import numpy as np
from absl import app, flags

from embbert_tf import errors
from embbert_tf.storage import checkpoint_import

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
    # The classifier lies beside the backbone or further out.
    steps = [0, *(at + 1 for at, letter in enumerate(front) if letter == ".")]
    heads = [
        front[:step]
        for step in reversed(steps)
        if any(name.startswith(f"{front[:step]}classifier.") for name in bare.values())
    ]
    within_model = front == "model." or front.endswith(".model.")
    outer = heads[0] if heads else front.removesuffix("model.") if within_model else front
    inner = "model." if within_model or (heads and front) else ""
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


def published_state(
    state: dict[str, np.ndarray], report: Callable[[str], None] = lambda line: None
) -> dict[str, np.ndarray]:
    """Returns the state under the published names, without heads of pre-training.

    Args:
        state: From `read_state`.
        report: Called with a sentence on a prefix that was taken off, and on heads left out.

    Raises:
        CheckpointError: if two tensors come to have one name.
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


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_string(
        "input", None, "PyTorch state dict (.pt, .bin) or .safetensors file.", flag_values=values
    )
    flags.DEFINE_string(
        "tokenizer", None, "tokenizer.json that the weights were trained with.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Folder to write.", flag_values=values)
    flags.DEFINE_list(
        "labels",
        None,
        "Label names in the order of the logits; by default 0, 1, 2, …",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "task",
        "classification",
        ["classification", "regression"],
        "What the classifier was made for.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "pair", False, "True if the classifier reads pairs of texts.", flag_values=values
    )
    flags.DEFINE_list(
        "ignore",
        [],
        "Prefixes of tensors to leave out, such as another task's head.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["input", "tokenizer", "output"], flag_values=values)


def main(_, values=flags.FLAGS):
    """Command line."""
    try:
        model = checkpoint_import.import_checkpoint(
            values.input,
            values.tokenizer,
            values.output,
            values.labels,
            values.task,
            values.pair,
            values.ignore,
            lambda line: print(f"{values.input}: {line}"),
        )
    except (errors.CheckpointError, errors.RunError, errors.TokenizerError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        sys.exit(1)
    kind = "classifier" if hasattr(model, "num_labels") else "backbone"
    print(f"{values.output}: {kind}, {model.count_params():,} parameters")


if __name__ == "__main__":
    define_flags()
    app.run(main)
