"""A Cortex-M55 whose model lies in the memory beside the chip, with room for more than 2 MB."""

import pathlib
import re
import shutil

from tests.support.firmware_model import FIRMWARE

# DRAM; and the SRAM, as the DTCM is smaller than the activations of the largest model.
_REGIONS = """\
  MODEL (r)  : ORIGIN = 0x60000000, LENGTH = 16M
  RAM (rwx)  : ORIGIN = 0x01000000, LENGTH = 2M
"""


def cortex_m55(folder: pathlib.Path) -> pathlib.Path:
    """Copies mps3-an547 and moves two regions of its linker script; returns the copy."""
    copy = folder / "mps3-an547-external"
    shutil.copytree(FIRMWARE / "boards/mps3-an547", copy)
    script = copy / "memory.ld"
    text = re.sub(r"^ *(MODEL|RAM) .*\n", "", script.read_text(), flags=re.M)
    script.write_text(text.replace("MEMORY\n{\n", f"MEMORY\n{{\n{_REGIONS}"))
    return copy
