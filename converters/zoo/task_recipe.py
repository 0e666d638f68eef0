"""How the models of a task are made: one TOML file a task in `recipes/`, read and checked.

```toml
seeds = [0, 1, 2]             # of the trainings; zoo/ ships the first one's model
init = "zoo/backbone"         # backbone or run to start from; without it random weights

[data]                        # files below the data folder
train = "snips/train.csv"
valid = "snips/valid.csv"     # without it a tenth of the training rows is held out
test = "snips/test.csv"       # measured, never trained or chosen on
soft_labels = "soft/snips.csv.gz"   # what a teacher says, for training
unlabelled = ["texts.txt.gz"]       # more texts for QAT
limit = 0                     # how many test rows are drawn; 0: all

[teacher]                     # runs whose mean teaches the others, instead of soft_labels
seeds = [100, 101, 102, 103]
texts = 60000                 # that are made of the training texts for them to read
linear = 0.5                  # share of a linear model in the mean; without it there is none

[teacher.train]               # fields of TrainOptions, of these runs
epochs = 12

[train]                       # fields of TrainOptions
epochs = 12

[scratch]                     # fields of TrainOptions, for `make --architecture`: all alike, from
epochs = 20                   # the labels alone

[qat]                         # fields of QatOptions
epochs = 2

[convert]
max_length = 28               # tokens of the int8 graph; 0: what 99.5 % of the rows need
recipe = "qat"                # calibration/recipes.py
```

All but `seeds`, `train` and `test` may be left away.
"""

import dataclasses
import difflib
import pathlib
import tomllib
from collections.abc import Collection
from typing import Any

from calibration import recipes
from converters.zoo import layout
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.model.option import check, documented, option
from embbert_tf.training.options import QatOptions, TrainOptions

FOLDER = pathlib.Path(__file__).resolve().parent / "recipes"
# Options that have a key of their own: they are not those of one training alone, or name files.
_ELSEWHERE = {"init", "soft_labels", "unlabelled", "seed"}
_QAT_RECIPES = tuple(name for name, recipe in recipes.RECIPES.items() if recipe.qat_weights)


@documented
@dataclasses.dataclass(frozen=True)
class Data:
    """Files of a task, below the data folder."""

    train: str = option("", "Training CSV.")
    valid: str | None = option(None, "Validation CSV; None: a tenth of `train` is held out.")
    test: str = option("", "CSV to measure on.")
    soft_labels: str | None = option(None, "CSV of a teacher's probabilities, for training.")
    unlabelled: tuple[str, ...] = option((), "Files with a text a line, for QAT.")
    limit: int = option(0, "How many rows of `test` are drawn; 0: all.", minimum=0)

    def __post_init__(self):
        check(self)
        for name in ("train", "test"):
            if not getattr(self, name):
                raise errors.OptionError(f"'{name}' is missing")

    def files(self) -> list[str]:
        """Returns every file that is named."""
        named = (self.train, self.valid, self.test, self.soft_labels, *self.unlabelled)
        return [name for name in named if name]


@documented
@dataclasses.dataclass(frozen=True)
class Conversion:
    """The int8 graph."""

    max_length: int = option(0, "Tokens; 0: what 99.5 % of the rows need.", minimum=0)
    recipe: str = option("qat", "Quantization scheme.", choices=_QAT_RECIPES)

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Runs whose mean teaches those that are wanted.

    Attributes:
        seeds: Of these runs.
        texts: How many texts are made for them to read.
        train: Options of their training; its seed not yet set.
        linear: Share of a linear model in the mean; 0: there is none.
    """

    seeds: tuple[int, ...]
    texts: int
    train: TrainOptions
    linear: float = 0.0


@dataclasses.dataclass(frozen=True)
class TaskRecipe:
    """How the models of a task are made.

    Attributes:
        name: Of the task.
        seeds: Of the trainings.
        init: Backbone or run to start from, below the current folder; None: random weights.
        data: Its files.
        train: Options of the fp32 training; its files below the data folder, its seed not yet set.
        qat: Options of the quantization-aware training, likewise.
        convert: The int8 graph.
        scratch: Options of the fp32 training where architectures are compared; None: they are not.
        teacher: Runs that teach; None: none do.
    """

    name: str
    seeds: tuple[int, ...]
    init: str | None
    data: Data
    train: TrainOptions
    qat: QatOptions
    convert: Conversion
    scratch: TrainOptions | None = None
    teacher: Teacher | None = None

    def check_inputs(self, folder: pathlib.Path) -> None:
        """Sees that everything is there that the recipe names.

        Args:
            folder: Of the data sets.

        Raises:
            ZooError: Something is missing.
        """
        self.check_data(folder)
        if self.init and not pathlib.Path(self.init).is_dir():
            raise layout.ZooError(f"{self.name} starts from {self.init}: no such folder; run this "
                                  "in the repository, or make it first")  # fmt: skip

    def check_data(self, folder: pathlib.Path) -> None:
        """Sees that every file is there that the recipe names.

        Args:
            folder: Of the data sets.

        Raises:
            ZooError: One is missing.
        """
        missing = [str(folder / name) for name in self.data.files()
                   if not (folder / name).is_file()]  # fmt: skip
        if missing:
            raise layout.ZooError(
                f"{self.name} is made of {', '.join(missing)}, which is not there; --data is the "
                "folder of the data sets"
            )

    def compared(self, architecture: str, pretrained: str | None = None) -> "TaskRecipe":
        """Returns the recipe by which an architecture is trained to be compared with others.

        Args:
            architecture: Of `embbert_tf.baselines.any_model.NAMES`.
            pretrained: Backbone folder of that architecture to start from; None: random weights.

        Raises:
            ZooError: The task compares none.
        """
        if self.scratch is None:
            raise layout.ZooError(
                f"the recipe of {self.name} has no table [scratch]: architectures are not compared "
                "on it"
            )
        return dataclasses.replace(
            self,
            name=compared_name(self.name, architecture, pretrained is not None),
            init=pretrained,
            teacher=None,
            data=dataclasses.replace(self.data, soft_labels=None, unlabelled=()),
            # A backbone brings its architecture along.
            train=self.scratch
            if pretrained
            else dataclasses.replace(self.scratch, architecture=architecture),
        )

    def options(
        self, folder: pathlib.Path, seed: int, soft_labels: pathlib.Path | None = None
    ) -> tuple[TrainOptions, QatOptions]:
        """Returns the options of both trainings.

        Args:
            folder: Of the data sets.
            seed: Of both.
            soft_labels: What the recipe's own teacher says; None: what the data folder has.
        """
        if soft_labels is None and self.data.soft_labels:
            soft_labels = folder / self.data.soft_labels
        train = dataclasses.replace(
            self.train,
            init=self.init,
            soft_labels=str(soft_labels) if soft_labels else None,
            seed=seed,
        )
        unlabelled = tuple(str(folder / name) for name in self.data.unlabelled)
        return train, dataclasses.replace(self.qat, unlabelled=unlabelled, seed=seed)


def compared_name(task: str, architecture: str, pretrained: bool) -> str:
    """Returns the name of a task's runs of an architecture that is compared with others."""
    return f"{task}-{architecture}" + ("-pretrained" if pretrained else "")


def names(folder: files.PathLike = FOLDER) -> list[str]:
    """Returns the tasks that a folder has recipes of, sorted."""
    return sorted(path.stem for path in pathlib.Path(folder).glob("*.toml"))


def read(name: str, folder: files.PathLike = FOLDER) -> TaskRecipe:
    """Reads and checks the recipe of a task.

    Args:
        name: Of the task.
        folder: Where its `<name>.toml` lies.

    Raises:
        ZooError: There is none, or something in it is not what it has to be.
    """
    known = names(folder)
    if name not in known:
        raise layout.ZooError(f"{folder}: no recipe of '{name}'; there is {', '.join(known)}")
    path = pathlib.Path(folder) / f"{name}.toml"
    try:
        content = tomllib.loads(files.read_bytes(path).decode("utf-8"))
    except ValueError as error:
        raise layout.ZooError(f"{path}: no TOML file: {error}") from error
    try:
        return _recipe(name, content)
    except errors.OptionError as error:
        raise layout.ZooError(f"{path}: {error}") from error


def _recipe(name: str, content: dict[str, Any]) -> TaskRecipe:
    """Returns the recipe that the content of a file says."""
    tables = ("data", "teacher", "train", "scratch", "qat", "convert")
    _check_names(content, ("seeds", "init", *tables), "")
    seeds, init = _seeds(content.get("seeds"), "seeds"), content.get("init")
    if init is not None and not isinstance(init, str):
        raise errors.OptionError("'init' must be the path of a folder")
    data = _section(Data, content, "data")
    teacher = _teacher(content["teacher"], init) if "teacher" in content else None
    if teacher and data.soft_labels:
        raise errors.OptionError("[teacher] and 'soft_labels' are two teachers; take one")
    # `soft_labels` decides which options are allowed; a teacher's are not written yet.
    soft = "soft.csv" if teacher else data.soft_labels
    return TaskRecipe(
        name,
        seeds,
        init,
        data,
        _section(TrainOptions, content, "train", init=init, soft_labels=soft),
        _section(QatOptions, content, "qat", unlabelled=data.unlabelled),
        _section(Conversion, content, "convert"),
        _section(TrainOptions, content, "scratch") if "scratch" in content else None,
        teacher,
    )


def _seeds(found: Any, where: str) -> tuple[int, ...]:
    if not isinstance(found, list) or not found or not all(type(s) is int for s in found):
        raise errors.OptionError(f"'{where}' must be a list of whole numbers, such as [0, 1, 2]")
    return tuple(found)


def _teacher(values: Any, init: str | None) -> Teacher:
    """Returns the teacher that the table [teacher] says."""
    if not isinstance(values, dict):
        raise errors.OptionError("'teacher' must be a table, [teacher]")
    _check_names(values, ("seeds", "texts", "train", "linear"), "[teacher] ")
    texts = values.get("texts")
    if type(texts) is not int or texts < 1:
        raise errors.OptionError(f"[teacher] 'texts' must be a whole number above 0, not {texts!r}")
    linear = values.get("linear", 0)
    if type(linear) not in (int, float) or not 0 <= linear < 1:
        raise errors.OptionError(
            f"[teacher] 'linear' must be a number from 0 to below 1, not {linear!r}"
        )
    seeds = _seeds(values.get("seeds"), "seeds")
    try:
        return Teacher(seeds, texts, _section(TrainOptions, values, "train", init=init), linear)
    except errors.OptionError as error:
        raise errors.OptionError(f"[teacher] {error}") from error


def _section(kind: Any, content: dict[str, Any], name: str, **more: Any) -> Any:
    """Returns an options dataclass of one table of the file, and of more that stands elsewhere."""
    values = content.get(name, {})
    if not isinstance(values, dict):
        raise errors.OptionError(f"'{name}' must be a table, [{name}]")
    elsewhere = () if kind is Data else _ELSEWHERE
    fields = [field.name for field in dataclasses.fields(kind) if field.name not in elsewhere]
    _check_names(values, fields, f"[{name}] ")
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    try:
        return kind(**values | lists, **more)
    except errors.OptionError as error:
        raise errors.OptionError(f"[{name}] {error}") from error


def _check_names(values: dict[str, Any], known: Collection[str], where: str) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows {', '.join(known)}"
            raise errors.OptionError(f"{where}'{name}' is unknown; {hint}")
