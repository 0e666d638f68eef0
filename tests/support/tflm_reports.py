"""Many reports from one process: the report forks, which a process with threads must not."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
_SCRIPT = """
import json, sys
from converters.report import tflm_needs
from embbert_tf import errors
answers = []
for path, options in json.load(sys.stdin):
    try:
        found = tflm_needs.report_under_limits(path, tflm_needs.ReportOptions(**options))
        answers.append({"text": found.text, "status": found.status, "message": found.message})
    except errors.EmbBertError as error:
        text = getattr(error, "text", "")
        answers.append({"text": text, "status": 1, "message": str(error)})
print(json.dumps(answers))
"""


def reports(wanted: list[tuple[pathlib.Path, dict]]) -> list[dict]:
    """Returns text, exit status and message of each report; `options` as for ReportOptions."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps([[str(path), options] for path, options in wanted]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return json.loads(done.stdout)
