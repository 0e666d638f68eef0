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

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from absl import app, flags

from embbert_tf import errors
from embbert_tf.model import option

Options = TypeVar("Options")


def run(
    define_flags: Callable[[flags.FlagValues], None], main: Callable[[flags.FlagValues], None]
) -> None:
    """Parses the command line and runs a command.

    A user's mistake ends it with one line on standard error and exit status 1, any other error
    with its traceback.

    Args:
        define_flags: Defines the command's flags on the values that it is given.
        main: Does the work; gets the parsed values.
    """
    quiet()
    define_flags(flags.FLAGS)
    app.run(lambda argv: call(pathlib.Path(argv[0]).stem, main, argv, flags.FLAGS))


def call(
    name: str,
    main: Callable[[flags.FlagValues], None],
    argv: list[str],
    values: flags.FlagValues,
) -> None:
    """Runs `main` on parsed flags; exits with one line where the user made a mistake.

    Args:
        name: Of the command, for the line.
        main: As for `run`.
        argv: What is left of the command line after its flags; only the program itself may be.
        values: The parsed flags.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        main(values)
    except errors.EmbBertError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def quiet() -> None:
    """Keeps TensorFlow's notes out of a command's output; call it before TensorFlow is loaded."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


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
        if limits["choices"] is not None:
            name, default, meaning = common
            flags.DEFINE_enum(name, default, limits["choices"], meaning, flag_values=values)
        elif kind is bool:
            flags.DEFINE_bool(*common, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(*common, **bounds, flag_values=values)
        elif kind is float:
            flags.DEFINE_float(*common, **bounds, flag_values=values)
        elif kind is tuple:
            flags.DEFINE_list(*common, flag_values=values)
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
    for field in dataclasses.fields(options_class):
        if field.name in more or field.name not in values:
            continue
        value = values[field.name].value
        chosen[field.name] = tuple(value) if option.plain_type(field) is tuple else value
    return options_class(**chosen, **more)
