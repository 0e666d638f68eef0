"""People at the UARTs of the boards; the drivers' count of lost bytes."""

import re
import subprocess

import pexpect
import pytest

from tests.support.boards import board as board_of
from tests.support.firmware_model import FIRMWARE, SENTENCES, make


@pytest.mark.parametrize(
    "name", ["mps2-an385", "mps2-an505", "mps3-an547", "netduinoplus2", "microbit"]
)
@pytest.mark.parametrize("debugger", [True, False])
def test_a_session_over_the_uart(tiny, name, debugger):
    """Asleep between bytes, with and without somebody who answers semihosting calls."""
    program = make("program", TARGET=name, IMAGE=tiny.path).stdout.strip().splitlines()[-1]
    machine = board_of(name).machine
    if debugger:
        command = str(FIRMWARE / "boards/emulate.sh")
        arguments = [machine, "300", program, "prompt", "uart"]
    else:
        command = "timeout"
        bare = f"-machine {machine} -display none -monitor none -serial stdio -icount shift=7"
        arguments = ["--foreground", "300", "qemu-system-arm", *bare.split(), "-kernel", program]
    child = pexpect.spawn(
        command,
        arguments,
        cwd=str(FIRMWARE),
        encoding="utf-8",
        timeout=120,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "QEMU_SERIAL": "stdio"},
    )
    child.delaybeforesend = None
    child.expect_exact("> ")
    assert f"EmbBERT on {name}" in child.before
    for text in SENTENCES[:3]:
        child.send(text + "\r")
        child.expect(r"\r+\n> ")
        label, confidence = tiny.answer(text)
        unit = "ticks" if name == "netduinoplus2" else "instructions"
        expected = rf"{re.escape(label)} {confidence:.2f} % \({len(tiny.ids(text))} tokens, [\d,]+ "
        assert re.search(expected + unit + r"\)", child.before)
    if debugger:
        child.send(":quit\r")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    else:  # nobody to end the emulator for it
        child.close(force=True)


# Runs a UART driver on the host: its registers are a page of memory at their addresses.
DRIVEN = r"""
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/mman.h>

#include "uart.h"

static volatile uint32_t* page(uintptr_t at) {
  void* const got = mmap((void*)at, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  return got == (void*)at ? got : NULL;
}

int main(void) {
  volatile uint32_t* const uart = page(BASE);
  if (uart == NULL) return 2;
  uart_open();
  for (int i = 0; i < 6; i++) {
    uart[STATUS] = RECEIVED | (i % 3 == 1 ? OVERRUN : 0);
    uart[DATA] = (uint32_t)('a' + i);
    const int byte = uart_read_byte();
    printf("%c%u ", byte, (unsigned)uart_overruns());
  }
  return 0;
}
"""


@pytest.mark.parametrize(
    ("source", "folder", "registers"),
    [
        (
            "boards/drivers/uart_cmsdk.c",
            "boards/mps2-an386",
            {"BASE": "0x40004000", "STATUS": "1", "DATA": "0", "RECEIVED": "2", "OVERRUN": "8"},
        ),
        (
            "boards/netduinoplus2/uart.c",
            "boards/netduinoplus2",
            {"BASE": "0x40011000", "STATUS": "0", "DATA": "1", "RECEIVED": "32", "OVERRUN": "8"},
        ),
    ],
)
def test_lost_bytes_are_counted(tmp_path, source, folder, registers):
    (tmp_path / "driven.c").write_text(DRIVEN)
    # In the place of the sleep, whose instructions the host lacks: there is always a byte here.
    (tmp_path / "interrupts.h").write_text(
        "#include <stdbool.h>\n#include <stdint.h>\n"
        "static inline void sleep_until_interrupt(uint32_t number, bool (*ready)(void)) {\n"
        "  (void)number;\n  (void)ready;\n}\n"
    )
    driver = (FIRMWARE / source).read_text()
    (tmp_path / "uart_driver.c").write_text(driver)
    includes = [f"-I{tmp_path}", f"-I{FIRMWARE / folder}", f"-I{FIRMWARE / 'boards/common'}"]
    defines = [f"-D{name}={value}" for name, value in registers.items()]
    files = [tmp_path / "driven.c", tmp_path / "uart_driver.c"]
    program = tmp_path / "driven"
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", *includes, *defines, *files, "-o", program],
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["a0", "b1", "c1", "d1", "e2", "f2"]
