"""The names of the classes, and those that were probably meant to be one."""

import collections
import unicodedata
from collections.abc import Iterable

from embbert_tf import errors
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike

_MOST_LOOK_ALIKES = 10  # groups of labels that are named one by one


def label_names(examples: Iterable[Example], path: PathLike) -> list[str]:
    """Returns the distinct labels, sorted: numbers by value, else by code point.

    Args:
        examples: Training rows.
        path: Where they came from, for the message.

    Raises:
        DataError: There are no rows or fewer than two classes, or a label has a line break.
    """
    lines = {example.label: example.line for example in examples}
    if not lines:
        raise errors.DataError(f"{path}:1: no rows after the header")
    if len(lines) == 1:
        raise errors.DataError(
            f"{path}: every row has the label {next(iter(lines))!r}; a classifier needs two or more"
        )
    for label, line in lines.items():
        if "\n" in label or "\r" in label:
            raise errors.DataError(
                f"{path}:{line}: the label {label!r} contains a line break, which labels.txt "
                "cannot hold; write it in one line"
            )
    if all(name.isdecimal() for name in lines):
        return sorted(lines, key=lambda name: (int(name), name))
    return sorted(lines)


def look_alike_labels(labels: Iterable[str]) -> list[str]:
    """Names labels that are told apart and were probably meant to be one.

    Labels look alike that differ only in case, in spaces, in invisible characters, in their Unicode
    form (`é` in one code point or two, full width), or in how they write a number (`1`, `1.0`).

    Example:
    ```python
    from embbert_tf.data.labels import look_alike_labels

    look_alike_labels(["home", "HOME", "music"])
    # ["the labels 'HOME' (1 row) and 'home' (1 row) differ only in case, and are trained as ..."]
    ```

    Args:
        labels: The label of every row.

    Returns:
        A sentence for each group of such labels; none if every label is distinct.
    """
    counts = collections.Counter(labels)
    by_essence = collections.defaultdict(list)
    for name in sorted(counts):
        by_essence[_essence(name)].append(name)
    groups = [names for names in by_essence.values() if len(names) > 1]
    sentences = []
    for names in groups[:_MOST_LOOK_ALIKES]:
        kind = _difference(names)
        spelling = ascii if kind == _UNICODE else repr
        *first, last = [
            f"{spelling(name)} ({counts[name]} row{'s' if counts[name] > 1 else ''})"
            for name in names
        ]
        sentences.append(
            f"the labels {', '.join(first)} and {last} differ only in {kind}, and are trained as "
            f"{len(names)} classes; write them alike if they mean the same"
        )
    if len(groups) > _MOST_LOOK_ALIKES:
        sentences.append(f"{len(groups) - _MOST_LOOK_ALIKES} more groups of labels look alike")
    return sentences


def _visible(name: str) -> str:
    return "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc"))


def _number(name: str) -> str:
    try:
        return repr(float(name))
    except ValueError:
        return name


_UNICODE = "invisible characters or Unicode form"
# What labels may differ in, and what is left without it.
_DIFFERENCES = {
    "case": str.casefold,
    "spaces": lambda name: "".join(name.split()),
    _UNICODE: lambda name: _visible(unicodedata.normalize("NFKC", name)),
    "how they write a number": _number,
}


def _essence(name: str) -> str:
    """Returns what is left of a label without all that look-alikes differ in."""
    for kind in (_UNICODE, "case", "spaces"):
        name = _DIFFERENCES[kind](name)
    # Case folding can undo the normal form; a number is compared by value, last.
    return _number(unicodedata.normalize("NFKC", name))


def _difference(names: list[str]) -> str:
    """Returns in what alone the labels differ."""
    for kind, reduce in _DIFFERENCES.items():
        if len({reduce(name) for name in names}) == 1:
            return kind
    return "case, spaces, Unicode form or how they write a number"
