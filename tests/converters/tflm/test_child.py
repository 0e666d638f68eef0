"""Functions in a child process: what comes back of those that answer, fail, die or hang."""

import os
import signal
import sys
import time

from converters.tflm import child


def test_answer_and_what_was_printed():
    big = bytes(range(256)) * 4096  # more than a pipe holds

    def work():
        print("said", flush=True)
        os.write(2, b"and written\n")
        return big

    assert child.call(work, 60) == child.Outcome(big, "said\nand written\n", None, False)


def test_failures_are_told_apart():
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def leave():
        print("a reason")
        sys.exit(1)

    def fail():
        raise KeyError("a bug")

    assert child.call(die, 60) == child.Outcome(None, "", signal.SIGKILL, False)
    assert child.call(leave, 60) == child.Outcome(None, "a reason\n", None, False)
    failed = child.call(fail, 60)
    assert failed.answer is None and "KeyError: 'a bug'" in failed.text


def test_time_and_memory_are_limited(tmp_path):
    def hang():
        with open(tmp_path / "pid", "w") as file:
            pid = os.fork() or os.getpid()
            file.write(str(pid))
        time.sleep(600)

    late = child.call(hang, 1, own_group=True)
    assert late.answer is None and late.late and late.signal is None

    def eat():
        try:
            return bytes(8 << 30)[:1]
        except MemoryError:
            return b"too much"

    assert child.call(eat, 60, memory_bytes=4 << 30).answer == b"too much"
