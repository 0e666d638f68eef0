"""The prompt: typed sessions over the UART and without a debugger, and garbage at it."""

import re
import subprocess

import numpy as np
import pexpect
import pytest

from tests.support.firmware_model import FIRMWARE, built, make

EMULATE = str(FIRMWARE / "boards/emulate.sh")


class Session:
    """A person at the prompt: types, and waits for the next prompt."""

    def __init__(self, command, arguments, **environment):
        self.child = pexpect.spawn(
            command,
            arguments,
            cwd=str(FIRMWARE),
            encoding="utf-8",
            timeout=600,
            env={"PATH": "/usr/bin:/bin:/usr/local/bin", **environment},
        )
        self.child.delaybeforesend = None
        self.child.expect_exact("> ")
        self.greeting = self.child.before

    def say(self, text: str) -> str:
        """Types a line and returns what came back before the next prompt."""
        self.child.send(text + "\r")
        # The board sends CR LF, and the terminal makes another CR of the LF.
        self.child.expect(r"\r+\n> ")
        return re.sub(r"\r+\n", "\n", self.child.before)


def answer_pattern(model, text, pair=None) -> str:
    label, confidence = model.answer(text, pair)
    tokens = len(model.ids(text, pair))
    return re.escape(f"{label} {confidence:.2f} % ({tokens} tokens, ") + r"[\d,]+ instructions\)"


def converse(session, model):
    """What every prompt must do; the echo of what was typed comes first in every answer."""
    text = "turn on the kitchen light"
    assert re.search(answer_pattern(model, text) + "$", session.say(text))
    # Taken back: a letter, one of several bytes, a whole line.
    edited = session.say("nonsense\x15turn on the kitchem\x7fn lightß\x7f")
    assert re.search(answer_pattern(model, text) + "$", edited)
    assert re.search("Nothing to read; type a sentence, or :help$", session.say(""))
    assert re.search("Nothing to read", session.say("   "))
    assert "Line too long: at most 2047 bytes." in session.say("x" * 3000)
    assert "Control characters are not text" in session.say("a\x01\x02b")
    assert re.search(answer_pattern(model, "größer"), session.say("größer"))
    for word in (":pair", ":info", ":bench", ":help", ":quit"):
        assert word in session.say(":help")
    information = session.say(":info")
    assert model_sha256(model) in information
    assert "tests/tiny" in information
    assert "kernels         dsp" in information
    assert "This model takes one text" in session.say(":pair a ||| b")
    assert "Not a command" in session.say(":nonsense")
    assert "only an encoder learns labels" in session.say(":learn lamp turn the lamp on")
    bench = session.say(":bench")
    assert '"n": 32, "instructions": ' in bench
    # Nothing of all this changed the answer.
    assert re.search(answer_pattern(model, text) + "$", session.say(text))


def model_sha256(model) -> str:
    from converters.firmware import model_image

    strings = model_image.section(model.image, model_image.Kind.SOURCE).decode().split("\0")
    return strings[2]


def test_session_over_the_uart(tiny):
    program = built(tiny)
    arguments = ["mps2-an386", "900", program, "prompt", "uart"]
    session = Session(EMULATE, arguments, QEMU_SERIAL="stdio")
    assert "EmbBERT on mps2-an386, 4 labels" in session.greeting
    converse(session, tiny)
    session.child.send(":quit\r")
    session.child.expect(pexpect.EOF)
    session.child.close()
    assert session.child.exitstatus == 0


def test_session_without_a_debugger(tiny):
    """The same program on a board with nothing but a serial line: semihosting calls find nobody."""
    arguments = "-machine mps2-an386 -display none -monitor none -serial stdio -icount shift=7"
    session = Session("qemu-system-arm", [*arguments.split(), "-kernel", built(tiny)])
    text = "turn on the kitchen light"
    assert re.search(answer_pattern(tiny, text) + "$", session.say(text))
    session.child.close(force=True)


def test_session_of_pairs(pairs):
    program = built(pairs)
    arguments = ["mps2-an386", "900", program, "prompt", "uart"]
    session = Session(EMULATE, arguments, QEMU_SERIAL="stdio")
    pattern = answer_pattern(pairs, "turn on", "the light")
    assert re.search(pattern, session.say(":pair turn on ||| the light"))
    assert "Write it as :pair" in session.say(":pair turn on")
    assert "Write it as :pair" in session.say(":pair ||| turn on")
    session.child.close(force=True)


@pytest.mark.slow
def test_garbage_at_the_prompt_under_sanitizers(tiny):
    result = make("program", TARGET="host", SANITIZE="1", IMAGE=tiny.path)
    assert result.returncode == 0, result.stdout + result.stderr
    program = result.stdout.splitlines()[-1]
    rng = np.random.default_rng(9)
    # Bytes of all kinds, with line ends often enough that many lines get through.
    garbage = rng.integers(0, 256, 200_000).astype(np.uint8)
    garbage[rng.integers(0, garbage.size, 5_000)] = 10
    garbage[garbage == 4] = 5  # Ctrl-D on an empty line ends the session
    text = rng.choice(np.frombuffer(b"abc :'\xc3\xa9\xe2\x82\xac\xf0 \n", np.uint8), 200_000)
    result = subprocess.run(
        [program, "prompt"],
        input=garbage.tobytes() + b"\n" + text.tobytes() + b"\nturn on the kitchen light\n",
        capture_output=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    label, confidence = tiny.answer("turn on the kitchen light")
    last = result.stdout.decode("utf-8", "replace").splitlines()[-2]
    assert last == f"> {label} {confidence:.2f} % (6 tokens)"
