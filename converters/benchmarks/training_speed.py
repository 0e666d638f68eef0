"""Measures how fast short texts train: tokens a second, also beside another checkout's.

Each figure is the median over the epochs, of every round, that follow the first of its process,
in which TensorFlow builds the step. The checkouts take turns, so that another load of the machine
falls on both; the load is printed, too.

Example:
  python -m converters.benchmarks.training_speed --beside=../before --rounds=3
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from absl import flags

from embbert_tf import cli, errors

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SPEED = re.compile(r": epoch (\d+)/.* (\d+) tokens/s")
# There against hangs alone.
_SECONDS = 3600


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "beside", None, "Folder of another checkout to measure beside this one.", flag_values=values
    )
    flags.DEFINE_string(
        "train",
        str(_ROOT / "examples" / "voice_commands" / "train.csv"),
        "Training CSV.",
        flag_values=values,
    )
    flags.DEFINE_string("preset", "embbert", "Size of the model.", flag_values=values)
    flags.DEFINE_integer("batch_size", 32, "Texts a step.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("epochs", 5, "Epochs of each process.", lower_bound=2, flag_values=values)
    flags.DEFINE_integer("rounds", 2, "Turns of each checkout.", lower_bound=1, flag_values=values)


def _measure(checkout: pathlib.Path, command: str, *arguments: str) -> list[int]:
    """Runs a training of a checkout; returns its tokens/s, an epoch each but for the first.

    Raises:
        EmbBertError: The training fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"embbert_tf.{command}", *arguments],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    speeds = [int(speed) for epoch, speed in _SPEED.findall(done.stdout) if epoch != "1"]
    if done.returncode or not speeds:
        last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        raise errors.EmbBertError(f"{checkout}: embbert_tf.{command} fails: {last}")
    return speeds


def _take_turns(
    checkouts: list[pathlib.Path], values: flags.FlagValues
) -> dict[tuple[str, pathlib.Path], list[int]]:
    """Returns the tokens/s of every measured epoch, by command and checkout."""
    common = [
        f"--train={pathlib.Path(values.train).resolve()}",
        f"--epochs={values.epochs}",
        f"--batch_size={values.batch_size}",
    ]
    fresh = [f"--preset={values.preset}", f"--patience={values.epochs}"]
    speeds: dict[tuple[str, pathlib.Path], list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(values.rounds):
            for index, checkout in enumerate(checkouts):
                run = f"{folder}/{number}_{index}"
                for command, more in (
                    ("train", [f"--output={run}", *fresh]),
                    ("qat", [f"--run={run}"]),
                ):
                    measured = _measure(checkout, command, *common, *more)
                    speeds.setdefault((command, checkout), []).extend(measured)
                    print(
                        f"round {number + 1}  {command:5}  {statistics.median(measured):8,.0f} "
                        f"tokens/s  load {os.getloadavg()[0]:.1f}  {checkout}",
                        flush=True,
                    )
    return speeds


def main(values: flags.FlagValues) -> None:
    """Measures and prints a line for each kind of training and checkout."""
    checkouts = [_ROOT]
    if values.beside:
        checkouts.append(pathlib.Path(values.beside).resolve())
        if not (checkouts[-1] / "embbert_tf" / "train.py").is_file():
            raise errors.EmbBertError(
                f"{values.beside}: no checkout, it has no embbert_tf/train.py"
            )
    speeds = _take_turns(checkouts, values)
    for command in ("train", "qat"):
        here = statistics.median(speeds[command, _ROOT])
        for checkout in checkouts:
            median = statistics.median(speeds[command, checkout])
            print(f"{command:5}  {median:8,.0f} tokens/s  x {median / here:4.2f}  {checkout}")


if __name__ == "__main__":
    cli.run(define_flags, main)
