"""Runs a function in a forked child: what it touches may crash, hang, or take all memory.

The caller must have no threads of its own that hold locks (TensorFlow has such); this module
imports the standard library alone, so that forking stays cheap and safe.
"""

import dataclasses
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO, NoReturn


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        answer: What the function returned; None when it raised, died or ran out of time.
        text: What the child printed, on standard output and standard error.
        signal: Signal that it died of, or None.
        late: Whether it ran out of time.
    """

    answer: bytes | None
    text: str
    signal: int | None
    late: bool


def call(
    function: Callable[[], bytes],
    seconds: float,
    memory_bytes: int | None = None,
    own_group: bool = False,
) -> Outcome:
    """Runs `function` in a child and waits for it.

    Args:
        function: Returns what the child shall answer; `sys.exit` ends the child without an answer.
        seconds: After which the child is killed.
        memory_bytes: Address space that the child may take; None for no limit.
        own_group: Whether the child's own children are killed along with it.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(function, writer, log, memory_bytes)
        os.close(writer)
        status = None
        try:
            if own_group:
                os.setpgid(child, child)
            received, late = _receive(reader, seconds)
            if not late:
                status = os.waitpid(child, 0)[1]
        finally:
            os.close(reader)
            if status is None:
                (os.killpg if own_group else os.kill)(child, signal.SIGKILL)
                status = os.waitpid(child, 0)[1]
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    died = os.WTERMSIG(status) if os.WIFSIGNALED(status) and not late else None
    return Outcome(received if status == 0 else None, text, died, late)


def _work(
    function: Callable[[], bytes],
    writer: int,
    log: BinaryIO,
    memory_bytes: int | None,
) -> NoReturn:
    """What the child does."""
    status = 1
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        view = memoryview(function())
        while view:
            view = view[os.write(writer, view) :]
        status = 0
    except SystemExit:
        pass  # It has said why.
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _receive(reader: int, seconds: float) -> tuple[bytes, bool]:
    """Returns all bytes up to the end of a pipe, and whether the time ran out before it."""
    deadline = time.monotonic() + seconds
    received = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return bytes(received), True
        piece = os.read(reader, 1 << 16)
        if not piece:
            return bytes(received), False
        received += piece
