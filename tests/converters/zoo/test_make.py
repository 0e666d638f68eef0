"""Recipes of `zoo/`'s tasks, and the command that trains what they say."""

import dataclasses
import pathlib

import pytest

from converters.zoo import layout, make, task_recipe
from embbert_tf.baselines.config import ARCHITECTURES
from embbert_tf.data import files
from embbert_tf.storage import run_folder
from tests.support.runs import run_command

TINY = """
seeds = [0, 1]

[data]
train = "tiny/train.csv"
test = "tiny/test.csv"

[train]
preset = "test"
vocab_size = 200
epochs = 1
keep = "last"
batch_size = 64

[qat]
epochs = 1
batch_size = 64
samples = 16
keep = "last"

[convert]
max_length = 16
"""


@pytest.fixture
def recipes(tmp_path):
    """A function that writes a recipe `tiny` and returns its folder."""

    def write(text: str) -> pathlib.Path:
        (tmp_path / "recipes").mkdir(exist_ok=True)
        (tmp_path / "recipes" / "tiny.toml").write_text(text)
        return tmp_path / "recipes"

    return write


@pytest.fixture
def data(tmp_path, small_csv):
    """A data folder with the task `tiny`."""
    folder = tmp_path / "data"
    (folder / "tiny").mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        files.copy(small_csv, folder / "tiny" / name)
    return folder


@pytest.fixture
def calls(monkeypatch):
    """Nothing is trained; the list of what would be: name of the run and options."""
    found = []
    monkeypatch.setattr(
        make.trainer,
        "train",
        lambda rows, *, output, valid, options: found.append((output.name, options)),
    )
    monkeypatch.setattr(make.quantized_trainer, "train_quantized", lambda run, rows, options: None)
    return found


@pytest.mark.parametrize("name", task_recipe.names())
def test_every_recipe_is_whole(name):
    recipe = task_recipe.read(name)
    task = layout.TASKS[name]
    assert recipe.data.test == task.reported
    assert task.reported not in (recipe.data.train, recipe.data.soft_labels)
    soft = pathlib.Path("soft.csv") if recipe.teacher else None
    train, qat = recipe.options(pathlib.Path("data"), recipe.seeds[0], soft)
    if train.init not in (None, "zoo/backbone"):  # A run that another recipe makes.
        folder, _, start = train.init.rpartition("/")
        task_started_from, _, seed = start.rpartition("-")
        assert folder == "build/zoo"
        assert int(seed) in task_recipe.read(task_started_from).seeds
    assert train.seed == qat.seed == recipe.seeds[0]
    if recipe.data.valid == task.reported:
        # Where the reported rows validate, no epoch may be chosen on them.
        assert train.keep == qat.keep == "last"
    expected = "qat4" if qat.weight_bits == 4 else "qat"
    assert recipe.convert.recipe == expected


def test_trains_each_seed_and_says_what_comes_next(recipes, data, tmp_path, monkeypatch):
    calls = []

    def train(rows, *, output, valid, options):
        calls.append((str(rows), str(output), valid, options.seed, options.batch_size))
        return "run of " + str(output)

    monkeypatch.setattr(make.trainer, "train", train)
    monkeypatch.setattr(
        make.quantized_trainer,
        "train_quantized",
        lambda run, rows, options: calls.append((run, str(rows), options.seed, options.samples)),
    )
    runs, rows = tmp_path / "runs", f"{data}/tiny/train.csv"
    done = run_command("converters.zoo.make", "--task=tiny", f"--recipes={recipes(TINY)}",
                       f"--data={data}", f"--output={runs}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert calls == [
        (rows, f"{runs}/tiny-0", None, 0, 64),
        (f"run of {runs}/tiny-0", rows, 0, 16),
        (rows, f"{runs}/tiny-1", None, 1, 64),
        (f"run of {runs}/tiny-1", rows, 1, 16),
    ]
    measure, add, table = done.stdout.splitlines()[-3:]
    assert f"accuracy --runs={runs}/tiny-0,{runs}/tiny-1 --calibration={rows}" in measure
    assert "--max_length=16" in measure and f"--test={data}/tiny/test.csv" in measure
    assert f"zoo.add --run={runs}/tiny-0" in add and "--output=zoo/tiny" in add
    assert "--tasks=tiny" in table


def test_a_teacher_is_trained_first_and_reads_new_texts(
    recipes, data, tmp_path, calls, monkeypatch
):
    monkeypatch.setattr(
        make.teacher_lib,
        "label_texts",
        lambda runs, inputs, output, report, **more: (
            calls.append(([r.name for r in runs], inputs, output, more)),
            output.write_text("text,a,b\n"),
        ),
    )
    monkeypatch.setattr(
        make.texts,
        "make_texts",
        lambda train, output, options: calls.append((train, output, options.count)),
    )
    more = (
        "[teacher]\nseeds = [7, 8]\ntexts = 30\nlinear = 0.25\n[teacher.train]\nepochs = 5\n[train]"
    )
    text = TINY.replace("[train]", more).replace("keep", "teacher_weight = 0.9\nkeep", 1)
    runs = tmp_path / "runs"
    done = run_command("converters.zoo.make", "--task=tiny", f"--recipes={recipes(text)}",
                       f"--data={data}", f"--output={runs}", "--seeds=3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, texts, (teachers, inputs, soft, linear), student = calls
    assert (first[0], first[1].epochs, first[1].seed) == ("tiny-teacher-7", 5, 7)
    assert second[0] == "tiny-teacher-8" and teachers == ["tiny-teacher-7", "tiny-teacher-8"]
    assert inputs == [runs / "tiny-texts.txt.gz", data / "tiny/train.csv"]
    assert texts == (data / "tiny/train.csv", runs / "tiny-texts.txt.gz", 30)
    assert soft == runs / "tiny-soft.csv.gz"
    assert linear == {"linear": data / "tiny/train.csv", "linear_share": 0.25, "valid": None}
    assert student[0] == "tiny-3" and student[1].soft_labels == str(soft)
    # What a teacher with other settings has written is not taken for this one's.
    done = run_command("converters.zoo.make", "--task=tiny", f"--data={data}", f"--output={runs}",
                       f"--recipes={recipes(text.replace('0.25', '0.5'))}")  # fmt: skip
    assert (
        done.returncode == 1 and "tiny-soft.csv.gz: written with another [teacher]" in done.stderr
    )


def test_trains_an_architecture_to_compare(recipes, data, tmp_path, calls):
    text = TINY.replace("[train]", 'soft_labels = "soft.csv"\n[scratch]\nepochs = 9\n[train]')
    done = run_command("converters.zoo.make", "--task=tiny", f"--recipes={recipes(text)}",
                       "--architecture=mamba", f"--data={data}", f"--output={tmp_path / 'runs'}",
                       "--seeds=4")  # fmt: skip
    assert done.returncode == 0, done.stderr
    ((name, options),) = calls
    assert name == "tiny-mamba-4"
    assert (options.architecture, options.epochs, options.seed) == ("mamba", 9, 4)
    assert options.init is None and options.soft_labels is None
    (measure,) = done.stdout.split(":\n")[-1].splitlines()
    assert f"--json={tmp_path / 'runs'}/seeds.json" in measure and "--task=tiny-mamba" in measure
    assert "fused" not in measure
    done = run_command("converters.zoo.make", "--task=tiny", f"--recipes={recipes(TINY)}",
                       "--architecture=mamba", f"--data={data}")  # fmt: skip
    assert done.returncode == 1 and "no table [scratch]" in done.stderr


def test_an_architecture_may_start_from_its_backbone(recipes, data, tmp_path, calls):
    text = TINY.replace("[train]", "[scratch]\nepochs = 9\n[train]")
    config = dataclasses.replace(ARCHITECTURES["bert"], vocab_size=300)
    files.write_json(
        tmp_path / "config.json", {"config": config.to_dict(), "task": "backbone", "origin": {}}
    )
    arguments = ("--task=tiny", f"--recipes={recipes(text)}", f"--data={data}", "--seeds=4",
                 f"--output={tmp_path / 'runs'}")  # fmt: skip
    start = f"--pretrained={tmp_path}"
    done = run_command("converters.zoo.make", *arguments, "--architecture=bert", start)
    assert done.returncode == 0, done.stderr
    ((name, options),) = calls
    assert name == "tiny-bert-pretrained-4"
    assert (options.init, options.epochs, options.seed) == (str(tmp_path), 9, 4)
    assert "--task=tiny-bert-pretrained" in done.stdout
    for more, message in (
        (("--architecture=mamba", start), "holds another model than mamba"),
        (("--architecture=embbert", start), "holds another model than embbert"),
        ((start,), "belongs to --architecture"),
        (("--architecture=bert", f"--pretrained={tmp_path / 'none'}"), "none"),
    ):
        done = run_command("converters.zoo.make", *arguments, *more)
        assert done.returncode == 1 and message in done.stderr
    assert len(calls) == 1


@pytest.mark.slow
def test_leaves_a_finished_seed_as_it_is(recipes, data, tmp_path, eager):
    arguments = ("--task=tiny", f"--recipes={recipes(TINY)}", f"--data={data}", "--seeds=1",
                 f"--output={tmp_path / 'runs'}")  # fmt: skip
    done = run_command("converters.zoo.make", *arguments)
    assert done.returncode == 0, done.stderr
    run = run_folder.load_run(tmp_path / "runs" / "tiny-1")
    assert run.qat_model is not None
    assert run_folder.read_settings(run.path)["training"]["seed"] == 1
    assert files.read_json(run.path / "qat.json")["qat"]["seed"] == 1
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    again = run_command("converters.zoo.make", *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to do") == 2, again.stdout
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*")} == before


def test_options_are_those_of_the_recipe(recipes):
    text = TINY.replace("[train]", 'soft_labels = "soft/tiny.csv"\n[train]\nteacher_weight = 0.7')
    recipe = task_recipe.read("tiny", recipes(text.replace("[0, 1]", '[3]\ninit = "zoo/backbone"')
                                              .replace("vocab_size = 200\n", "")))  # fmt: skip
    train, qat = recipe.options(pathlib.Path("there"), 3)
    assert (train.soft_labels, train.teacher_weight) == ("there/soft/tiny.csv", 0.7)
    assert (train.init, train.seed, qat.seed) == ("zoo/backbone", 3, 3)
    limited = text.replace("[train]", "limit = 50\n[train]")
    commands = make.next_commands(
        task_recipe.read("tiny", recipes(limited)), pathlib.Path("d"), [pathlib.Path("r/tiny-0")]
    )
    assert "--limit=50" in commands[0] and "--limit=50" in commands[2]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("epochs = 1\nkeep", "epoch = 1\nkeep", "[train] 'epoch' is unknown; did you mean"),
        ("samples = 16", "samples = 0", "[qat] samples must be at least 1"),
        ("samples = 16", "samples = 'x'", "[qat] samples must be of type int"),
        ("[train]", "[teacher]\nseeds = [1]\n[train]", "[teacher] 'texts' must be a whole number"),
        ("[train]", "[teacher]\ntexts = 5\n[train]", "'seeds' must be a list of whole numbers"),
        ("[train]", "[teacher]\ntext = 5\n[train]", "[teacher] 'text' is unknown"),
        ("[train]", "[teacher]\nseeds = [1]\ntexts = 5\nlinear = 1\n[train]", "'linear' must be"),
        ("[train]", "soft_labels = 'a'\n[teacher]\nseeds = [1]\ntexts = 5\n[train]", "take one"),
        ("[qat]", "[qta]", "'qta' is unknown; did you mean 'qat'?"),
        ("[0, 1]", "[]", "'seeds' must be a list of whole numbers"),
        ("[0, 1]", "[0.5]", "'seeds' must be a list of whole numbers"),
        ("seeds", "see ds", "no TOML file"),
        ('test = "tiny/test.csv"', "", "[data] 'test' is missing"),
        ("[convert]", "[convert]\nrecipe = 'int3'", "[convert] recipe must be one of"),
        ("[qat]", "[qat]\nseed = 1", "[qat] 'seed' is unknown"),
        ("[train]", "[train]\nteacher_weight = 0.7", "teacher_weight needs soft_labels"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_before_any_work(recipes, data, tmp_path, old, new, message):
    assert old in TINY
    folder = recipes(TINY.replace(old, new))
    done = run_command("converters.zoo.make", "--task=tiny", f"--recipes={folder}",
                       f"--data={data}", f"--output={tmp_path / 'runs'}")  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr and "tiny.toml" in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()


def test_missing_inputs_and_bad_seeds_are_refused_before_any_work(recipes, data, tmp_path):
    folder = recipes(TINY)
    common = (f"--recipes={folder}", f"--output={tmp_path / 'runs'}")
    (data / "tiny" / "test.csv").unlink()
    no_start = TINY.replace("[0, 1]", '[0]\ninit = "zoo/nothing"').replace("vocab_size = 200", "")
    for arguments, message in (
        (("--task=tiny", f"--data={data}"), f"made of {data}/tiny/test.csv, which is not there"),
        (("--task=tiny", "--data=nowhere"), "nowhere/tiny/train.csv, nowhere/tiny/test.csv"),
        (("--task=tyni", f"--data={data}"), "no recipe of 'tyni'; there is tiny"),
        (("--task=tiny", f"--data={data}", "--seeds=a"), "--seeds=a: expected whole numbers"),
    ):
        done = run_command("converters.zoo.make", *arguments, *common)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    recipes(no_start)
    files.copy(data / "tiny" / "train.csv", data / "tiny" / "test.csv")
    done = run_command("converters.zoo.make", "--task=tiny", f"--data={data}", *common)
    assert done.returncode == 1 and "zoo/nothing: no such folder" in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()
