"""What every command shares and no command's own test shows."""

import platform
import subprocess
import sys

import pytest

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


FAULTS = """
import resource
import sys
from embbert_tf import cli

def use_and_free():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1:]:
    cli.keep_freed_memory()
use_and_free()
print(use_and_free())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_asking_linux_for_it():
    without, with_it = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, *more], cwd=ROOT))
        for more in ([], ["keep"])
    )
    # A page has 4 kB or more; huge pages make fewer of them.
    assert with_it <= 2 < without
