"""Boards whose model lies in the memory beside the chip, where models above 4 MB have room."""

import pathlib
import re
import shutil

from tests.support.firmware_model import FIRMWARE

# Where, and how large: PSRAM of the MPS2 images, DRAM of the MPS3 image; and the RAM, which on the
# MPS3 image is then the SRAM, as its DTCM is smaller than the activations of the largest model.
MEMORIES = {
    "mps2-an386": ("0x21000000, LENGTH = 16M", "0x20000000, LENGTH = 4M"),
    "mps3-an547": ("0x60000000, LENGTH = 16M", "0x01000000, LENGTH = 2M"),
}


def board_folder(target: str, folder: pathlib.Path) -> pathlib.Path:
    """Copies a board's folder and moves the regions of its linker script; returns the copy."""
    copy = folder / f"{target}-external"
    shutil.copytree(FIRMWARE / "boards" / target, copy)
    model, ram = MEMORIES[target]
    script = copy / "memory.ld"
    text = re.sub(r"REGION_ALIAS.*\n|^ *(MODEL|RAM) .*\n", "", script.read_text(), flags=re.M)
    regions = f"  MODEL (r)  : ORIGIN = {model}\n  RAM (rwx)  : ORIGIN = {ram}\n"
    script.write_text(text.replace("MEMORY\n{\n", "MEMORY\n{\n" + regions))
    return copy
