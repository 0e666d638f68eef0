"""Trains the models of a task as its recipe says, one a seed, quantization-aware training included.

Example:
  python -m converters.zoo.make --task=snips --data=DATA --output=build/zoo

  python -m converters.zoo.make --task=snips --architecture=bert --data=DATA --output=build/compared

DATA is the folder of the data sets: snips/train.csv and so on. Each seed gets a run folder,
build/zoo/snips-0. A command that was stopped goes on where it was when it is given again; what has
finished is left as it is. Nothing is measured on test rows here: at the end it prints the commands
that do that and fill `zoo/`. What a recipe may say is in `converters/zoo/task_recipe.py`.

With --architecture the model is that one, and the training the recipe's [scratch]: every
architecture alike from the labels alone, to be compared. It starts from random weights, or with
--pretrained from what `python -m embbert_tf.pretrain --architecture=...` made.
"""

import dataclasses
import pathlib
import shlex
from typing import Any

from absl import flags

from converters.zoo import layout, seed_results, task_recipe
from embbert_tf import cli, errors
from embbert_tf.baselines import any_model
from embbert_tf.data import files
from embbert_tf.storage import run_folder
from embbert_tf.synthesis import texts
from embbert_tf.training import quantized_trainer, trainer
from embbert_tf.training import teacher as teacher_lib

# Of `converters.benchmarks.accuracy`; the others compare with what is not shipped.
_VARIANTS = "fp32,qat,int8,fused"
_VARIANTS_OF_COMPARED = "fp32,qat,int8"


def make(
    recipe: task_recipe.TaskRecipe,
    data: pathlib.Path,
    output: pathlib.Path,
    seeds: tuple[int, ...] = (),
) -> list[pathlib.Path]:
    """Trains a model a seed, in fp32 and then quantization-aware.

    Args:
        recipe: Of the task.
        data: Folder of the data sets.
        output: Folder for the runs, `<task>-<seed>`.
        seeds: Those wanted; empty for the recipe's.

    Returns:
        The run folders.

    Raises:
        ZooError: Something that the recipe needs is missing; nothing was trained then.
        EmbBertError: As both trainings do.
    """
    recipe.check_inputs(data)
    seeds = seeds or recipe.seeds
    soft = output / f"{recipe.name}-soft.csv.gz" if recipe.teacher else None
    plans = [recipe.options(data, seed, soft) for seed in seeds]
    files.make_folder(output)
    train, runs = data / recipe.data.train, []
    valid = data / recipe.data.valid if recipe.data.valid else None
    if soft is not None:
        _teach(recipe, train, valid, soft)
    for number, (seed, (fp32, qat)) in enumerate(zip(seeds, plans, strict=True), 1):
        runs.append(output / f"{recipe.name}-{seed}")
        print(f"== {runs[-1]}: seed {seed}, {number} of {len(seeds)}", flush=True)
        run = trainer.train(train, output=runs[-1], valid=valid, options=fp32)
        quantized_trainer.train_quantized(run, train, qat)
    return runs


def _teach(
    recipe: task_recipe.TaskRecipe,
    train: pathlib.Path,
    valid: pathlib.Path | None,
    soft: pathlib.Path,
) -> None:
    """Trains a recipe's teacher and writes the file of what it says; the runs go beside it.

    Raises:
        ZooError: There is such a file, which a teacher with other settings wrote.
    """
    teacher, output = recipe.teacher, soft.parent
    assert teacher is not None  # The caller's condition.
    # Of the runs' own settings each run keeps a record.
    settings = {"seeds": list(teacher.seeds), "texts": teacher.texts, "linear": teacher.linear}
    record = output / f"{recipe.name}-soft.json"
    if soft.exists() and not (record.exists() and files.read_json(record) == settings):
        raise layout.ZooError(
            f"{soft}: written with another [teacher] than {recipe.name}'s recipe has now; take "
            "another --output, or delete it"
        )
    files.write_json(record, settings)
    runs = []
    for number, seed in enumerate(teacher.seeds, 1):
        runs.append(output / f"{recipe.name}-teacher-{seed}")
        print(f"== {runs[-1]}: teacher {number} of {len(teacher.seeds)}", flush=True)
        options = dataclasses.replace(teacher.train, init=recipe.init, seed=seed)
        trainer.train(train, output=runs[-1], valid=valid, options=options)
    made = output / f"{recipe.name}-texts.txt.gz"
    if not soft.exists():  # Written in one step, when all is there.
        texts.make_texts(train, made, options=texts.TextOptions(count=teacher.texts))
        teacher_lib.label_texts(
            runs,
            [made, train],
            soft,
            report=print,
            linear=train if teacher.linear else None,
            linear_share=teacher.linear,
            valid=valid,
        )


def next_commands(
    recipe: task_recipe.TaskRecipe, data: pathlib.Path, runs: list[pathlib.Path], ours: bool = True
) -> list[str]:
    """Returns the commands that measure finished runs and put the first into `zoo/`.

    Args:
        recipe: What made them.
        data: Folder of the data sets.
        runs: Their folders.
        ours: Whether they belong into `zoo/`; others are only measured.
    """
    train, folder = data / recipe.data.train, layout.ROOT.name
    length = [f"--max_length={recipe.convert.max_length}"] if recipe.convert.max_length else []
    graph = [f"--calibration={train}", f"--recipe={recipe.convert.recipe}", *length]
    module = ["python", "-m"]
    limit = [f"--limit={recipe.data.limit}"] if recipe.data.limit else []
    variants = _VARIANTS if ours else _VARIANTS_OF_COMPARED
    results = f"{folder}/{seed_results.FILE}" if ours else f"{runs[0].parent}/{seed_results.FILE}"
    commands = [
        [*module, "converters.benchmarks.accuracy", f"--runs={','.join(map(str, runs))}", *graph,
         f"--test={data / recipe.data.test}", f"--task={recipe.name}", f"--variants={variants}",
         *limit, f"--json={results}"],
        [*module, "converters.zoo.add", f"--run={runs[0]}", *graph,
         f"--output={folder}/{recipe.name}"],
        [*module, "converters.zoo.table", f"--data={data}", f"--tasks={recipe.name}", *limit,
         f"--markdown={folder}/README.md", f"--json={folder}/table.jsonl"],
    ]  # fmt: skip
    return [shlex.join(command) for command in (commands if ours else commands[:1])]


def check_pretrained(architecture: str, path: str | None) -> None:
    """Sees that a backbone folder, if there is one, holds an architecture in its published sizes.

    Raises:
        RunError: The folder cannot be read.
        ZooError: It holds another model.
    """
    if not path:
        return
    config, wanted = run_folder.read_config(path), any_model.new_config(architecture, "embbert")
    free: dict[str, Any] = {"vocab_size": 8, "dropout": 0.0}  # Of the texts, and of the training.
    if dataclasses.replace(config, **free) != dataclasses.replace(wanted, **free):
        raise layout.ZooError(
            f"--pretrained={path}: holds another model than {architecture} as published; "
            f"`python -m embbert_tf.pretrain --architecture={architecture}` makes one"
        )


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "task": (None, "Name of the task, such as snips; its recipe is <task>.toml."),
        "data": (None, "Folder of the data sets: snips/train.csv and so on."),
        "output": ("build/zoo", "Folder for the runs."),
        "recipes": (str(task_recipe.FOLDER), "Folder of the recipes."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_enum(
        "architecture",
        None,
        any_model.NAMES,
        "Train this one from the labels alone, to compare; without it the zoo's model.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "pretrained",
        None,
        "Backbone folder to start --architecture from, in place of random weights.",
        flag_values=values,
    )
    flags.DEFINE_list("seeds", [], "Seeds; default those of the recipe.", flag_values=values)
    flags.mark_flags_as_required(["task", "data"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Trains, and prints the commands that come next."""
    recipe = task_recipe.read(values.task, values.recipes)
    if values.architecture:
        check_pretrained(values.architecture, values.pretrained)
        recipe = recipe.compared(values.architecture, values.pretrained or None)
    elif values.pretrained:
        raise errors.OptionError("--pretrained: belongs to --architecture; a recipe says its own")
    try:
        seeds = tuple(int(seed) for seed in values.seeds)
    except ValueError as error:
        raise errors.OptionError(
            f"--seeds={','.join(values.seeds)}: expected whole numbers, such as --seeds=0,1,2"
        ) from error
    data = pathlib.Path(values.data)
    runs = make(recipe, data, pathlib.Path(values.output), seeds)
    ours = not values.architecture
    more = " and put the first one into zoo/" if ours else ""
    print(f"\nThis measures the runs on the test rows{more}:")
    print("\n".join(next_commands(recipe, data, runs, ours)), flush=True)


if __name__ == "__main__":
    cli.run(define_flags, main)
