"""What every command shares and no command's own test shows."""

import subprocess
import sys

from tests.support.runs import ROOT

CHATTY = """
from embbert_tf import cli

def main(values):
    for number in range(100_000):
        print(number)

cli.run(lambda values: None, main)
"""


def test_a_reader_that_has_seen_enough_ends_a_command_quietly():
    process = subprocess.Popen(
        [sys.executable, "-c", CHATTY], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
