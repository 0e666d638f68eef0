"""What every command shares: flags made from options, errors as one line, quiet libraries.

A command defines its flags in a function and works in another, so that importing it defines
nothing, and calls `run` with both:

```python
def define_flags(values):
    flags.DEFINE_string("train", None, "Training CSV.", required=True, flag_values=values)
    cli.define_options(TrainOptions, values)


def main(values):
    trainer.train(values.train, options=cli.options_of(TrainOptions, values))


if __name__ == "__main__":
    cli.run(define_flags, main)
```
"""

import contextlib
import ctypes
import dataclasses
import importlib.abc
import importlib.util
import logging
import os
import pathlib
import sys
import tempfile
import typing
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging

from embbert_tf import errors
from embbert_tf.model import option

Options = TypeVar("Options")

# What `keep_freed_memory` sets, by its number in glibc's malloc.h.
_MALLOC_OPTIONS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: free bytes at the end of the heap that Linux gets back.
    -4: 0,  # M_MMAP_MAX: blocks outside the heap, which Linux gets back as soon as they are free.
    -8: 1,  # M_ARENA_MAX: heaps; a thread's own is given back sooner.
}

# The flags that this module defines are the command's own: its --help shows them.
flags.disclaim_key_flags()


def run(define_flags: Callable[[flags.FlagValues], None], main: Callable[..., None]) -> None:
    """Parses the command line and runs a command.

    A user's mistake ends it with one line on standard error and exit status 1, any other error
    with its traceback.

    Args:
        define_flags: Defines the command's flags on the values that it is given.
        main: Does the work; gets the parsed values.
    """
    quiet()
    keep_freed_memory()
    define_flags(flags.FLAGS)
    app.run(lambda argv: call(pathlib.Path(argv[0]).stem, main, argv, flags.FLAGS))


def call(
    name: str,
    main: Callable[..., None],
    argv: list[str],
    values: flags.FlagValues,
) -> None:
    """Runs `main` on parsed flags; exits with one line where the user made a mistake.

    Args:
        name: Of the command, for the line.
        main: As for `run`.
        argv: What is left of the command line after its flags: the program, and the arguments that
            `main` names by `positional`.
        values: The parsed flags.
    """
    names = getattr(main, "positional", ())
    if len(argv) > 1 + len(names):
        raise app.UsageError(f"unexpected argument '{argv[1 + len(names)]}'")
    if len(argv) < 1 + len(names):
        raise app.UsageError(f"say {' and '.join(names[len(argv) - 1 :])}")

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, errors.EmbBertWarning):
            print(f"{name}: warning: {message}", file=sys.stderr, flush=True)
        else:
            python_shows(message, category, *where, **more)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", errors.EmbBertWarning)
            python_shows, warnings.showwarning = warnings.showwarning, show
            main(values, *argv[1:])
        sys.stdout.flush()
    except errors.EmbBertError as error:
        sys.exit(f"{name}: {error}")
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. Python would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)


def positional(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a `main` that takes arguments without a flag, after the parsed flags.

    Args:
        *names: What each is, for the line that says which is missing.
    """

    def mark(main: Callable[..., None]) -> Callable[..., None]:
        main.positional = names  # type: ignore[attr-defined]
        return main

    return mark


def quiet() -> None:
    """Keeps notes of TensorFlow and other libraries out of a command's output.

    Call it before TensorFlow is loaded. Errors still show; what is written while TensorFlow loads,
    before any of its settings applies, shows only if loading fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl_logging.set_verbosity(absl_logging.ERROR)
    for name in ("tensorflow", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not any(isinstance(finder, _QuietImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietImport("tensorflow"))


def keep_freed_memory() -> None:
    """Lets the process use memory again that it freed, where the C library is glibc.

    By itself glibc gives what a training step frees back to Linux, which clears each page when the
    next step asks for it: up to half of a step's time. Call it before TensorFlow is loaded, as its
    threads get heaps of their own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for number, value in _MALLOC_OPTIONS.items():
            mallopt(number, value)


class _QuietImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one package with file descriptor 2 turned away: C++ knows no `sys.stderr`."""

    def __init__(self, name: str):
        self._name = name
        self._loader: Any = None

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)  # which leaves the finders that know where it is
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # Tools find the package's files through the loader that knows them.
        module.__loader__ = module.__spec__.loader = self._loader
        with _turned_away(2):
            self._loader.exec_module(module)


@contextlib.contextmanager
def _turned_away(descriptor: int) -> Iterator[None]:
    """Sends what is written to a file descriptor nowhere, or after an exception where it should."""
    sys.stderr.flush()
    kept = os.dup(descriptor)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), descriptor)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            os.write(kept, buffer.read())
            raise
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)


def define_options(
    options_class: type, values: flags.FlagValues, without: Collection[str] = ()
) -> None:
    """Defines one flag for each field of an options dataclass.

    Args:
        options_class: Fields made by `embbert_tf.model.option.option`.
        values: Where to define them.
        without: Fields that get no flag.
    """
    for field in dataclasses.fields(options_class):
        if field.name in without:
            continue
        limits = field.metadata
        common = (field.name, field.default, limits["meaning"])
        bounds = {"lower_bound": limits["minimum"], "upper_bound": limits["maximum"]}
        kind = option.plain_type(field)
        if limits["choices"] is not None and kind is str:
            name, default, meaning = common
            flags.DEFINE_enum(name, default, limits["choices"], meaning, flag_values=values)
        elif kind is bool:
            flags.DEFINE_bool(*common, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(*common, **bounds, flag_values=values)
        elif kind is float:
            flags.DEFINE_float(*common, **bounds, flag_values=values)
        elif kind is tuple:
            name, items, meaning = field.name, typing.cast(tuple, field.default), limits["meaning"]
            flags.DEFINE_list(name, [str(item) for item in items], meaning, flag_values=values)
        else:
            flags.DEFINE_string(*common, flag_values=values)


def options_of(options_class: type[Options], values: flags.FlagValues, **more: Any) -> Options:
    """Returns the options that the flags say.

    Args:
        options_class: As for `define_options`.
        values: The parsed flags.
        **more: Fields that have no flag.

    Raises:
        OptionError: The options contradict each other.
    """
    chosen = {}
    for field in dataclasses.fields(options_class):  # type: ignore[arg-type]
        if field.name in more or field.name not in values:
            continue
        value = values[field.name].value
        chosen[field.name] = _tuple(field, value) if isinstance(value, list) else value
    return options_class(**chosen, **more)


def _tuple(field: dataclasses.Field, items: list[str]) -> tuple:
    """Returns the items of a list flag as what the field's type says, such as `tuple[int, ...]`."""
    kind = typing.get_args(field.type)[0]
    try:
        return tuple(kind(item) for item in items)
    except ValueError as error:
        raise errors.OptionError(
            f"--{field.name}={','.join(items)}: expected a list of {kind.__name__}, such as "
            f"--{field.name}={','.join(str(item) for item in typing.cast(tuple, field.default))}"
        ) from error
