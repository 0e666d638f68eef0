"""A wheel of the project, installed in an environment of its own, away from the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv

import pytest

from converters.exports import measure
from tests.support.runs import ROOT, output_of

# In one process, as TensorFlow takes seconds to load.
STEPS = """
import json, sys
import converters, embbert_tf

options = embbert_tf.TrainOptions(preset="test", epochs=1)
run = embbert_tf.train("train.csv", test="train.csv", output="run", options=options)
options = converters.ConvertOptions(count=16)
model = converters.convert(run, calibration="train.csv", options=options)
model.save("model")
export = converters.export_firmware("model", "mine", converters.ExportOptions(name="mine"))
json.dump([converters.__file__, export.not_measured], sys.stdout)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with the wheel, and with what this one has but the project."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "build.cfg").write_text(
        f"[build]\nbuild_base={folder}/build\n[egg_info]\negg_base={folder}\n"
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, ROOT],
        env=os.environ | {"DIST_EXTRA_CONFIG": str(folder / "build.cfg")},
        check=True,
    )
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 4_000_000
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True)
    # A folder on the path, whose own .pth file, which leads to the checkout, is not read.
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python, folder, *arguments):
    """What Python prints, without any trace of the checkout in its environment."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return output_of([python, *arguments], folder, env=environment)


@pytest.mark.slow
def test_training_conversion_and_export_work_from_a_wheel(python, small_csv, tmp_path):
    (tmp_path / "train.csv").write_bytes(small_csv.read_bytes())
    said = run(python, tmp_path, "-c", STEPS)
    where, not_measured = json.loads(said[said.rindex("[") :])
    assert where.startswith(str(python.parents[1])) and not_measured == measure.missing()
    assert (tmp_path / "mine/mine_model.c").is_file()
    report = run(
        python, tmp_path, "-m", "converters.tflm_report", "model/model.tflite", "--picture="
    )
    assert "MicroMutableOpResolver" in report


@pytest.mark.slow
def test_the_command_exports_the_model_that_comes_along(python, tmp_path):
    arguments = ["--model=zoo/snips", "--for=cmake", "--name=snips", "--nomeasure", "--output=out"]
    assert "README.md says" in run(python, tmp_path, "-m", "converters.export", *arguments)
    assert (tmp_path / "out/CMakeLists.txt").is_file() and (tmp_path / "out/LICENSE").is_file()
