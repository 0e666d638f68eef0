"""A platform of PlatformIO that needs no download: the emulated Cortex-M4, and this machine."""

import json
import os
import pathlib
import sys

from tests.support.runs import output_of

_MAIN_PY = """
from os.path import join
from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
cpu = ["-mcpu=cortex-m4", "-mthumb", "-Os", "-ffunction-sections", "-fdata-sections"]
env.Replace(
    AR="arm-none-eabi-ar", CC="arm-none-eabi-gcc", CXX="arm-none-eabi-g++",
    LINK="arm-none-eabi-gcc", RANLIB="arm-none-eabi-ranlib", PROGSUFFIX=".elf",
    CCFLAGS=[*cpu, "-Wall", "-Wextra", "-Werror"],
    LINKFLAGS=[
        *cpu, "--specs=rdimon.specs",
        "-Wl,--gc-sections,-u,embbert_vectors,--section-start=.vectors=0",
    ],
)
env.BuildSources(join("$BUILD_DIR", "vectors"), join(env.PioPlatform().get_dir(), "vectors"))
Default(env.BuildProgram())
"""
_SCONS_PY = "import SCons.Script\n\nSCons.Script.main()\n"
_VECTORS_C = """#include <stdint.h>
extern void _start(void);
extern const uintptr_t embbert_vectors[2];
__attribute__((section(".vectors"))) const uintptr_t embbert_vectors[2] = {
    0x20400000u, (uintptr_t)_start};
"""


def write_core(folder: pathlib.Path) -> None:
    """Fills a core folder: SCons as a package, and the platform "emulated"."""
    from platformio.dependencies import get_core_dependencies

    version = get_core_dependencies()["tool-scons"].strip("~")
    spec = {"owner": "platformio", "name": "tool-scons", "id": 1, "requirements": None, "uri": None}
    scons = {"type": "tool", "name": "tool-scons", "version": version, "spec": spec}
    platform = {
        "name": "emulated",
        "version": "1.0.0",
        "title": "Emulated Cortex-M4",
        "description": "QEMU's mps2-an386",
        "frameworks": {},
        "packages": {},
    }
    board = {
        "name": "Emulated Cortex-M4",
        "vendor": "QEMU",
        "url": "https://www.qemu.org",
        "build": {"mcu": "cortex-m4"},
        "upload": {"maximum_ram_size": 4194304, "maximum_size": 4194304},
    }
    package = {"name": "tool-scons", "version": version, "description": "SCons"}
    files = {
        "packages/tool-scons/package.json": json.dumps(package),
        "packages/tool-scons/.piopm": json.dumps(scons),
        "packages/tool-scons/scons.py": _SCONS_PY,
        "platforms/emulated/platform.json": json.dumps(platform),
        "platforms/emulated/boards/m4.json": json.dumps(board),
        "platforms/emulated/builder/main.py": _MAIN_PY,
        "platforms/emulated/vectors/vectors.c": _VECTORS_C,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def pio(core: pathlib.Path, project: pathlib.Path, *arguments) -> str:
    """Runs PlatformIO on a project, without network; returns what it prints."""
    environment = os.environ | {
        "PLATFORMIO_CORE_DIR": str(core),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "false",
        "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "10000",
        # Whatever would be fetched fails at once.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "platformio", *arguments]
    return output_of(command, project, env=environment)
