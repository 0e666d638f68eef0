"""The firmware's C as WebAssembly: what the page's box runs.

Clang and LLVM's linker compile the library as any board gets it, with the portable kernels, over a
few lines of C library (tflm_app/browser). No other toolchain takes part.
"""

import functools
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from converters.firmware import sources
from embbert_tf import errors
from embbert_tf.data import files

# Program, and the package of Debian that brings it.
_TOOLS = {"clang": "clang", "wasm-ld": "lld"}
# Longest text with the second one of a pair.
_TEXT_BYTES = 1 << 18
# Of the demonstration: what puts an answer into the words of the prompt.
_APPLICATION = ("app/print.c", "app/text.c")
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections")
_BARE = ("--target=wasm32", "-ffreestanding", "-fno-builtin", "-nostdlib", "-nostdlibinc")
_LINK = ("-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,--strip-all")


class BrowserError(errors.EmbBertError):
    """There is no program for the page; the message says why and how to mend it."""


@functools.cache
def program() -> bytes:
    """Compiles the program; it holds no model.

    Raises:
        BrowserError: clang or its linker is missing, or cannot make WebAssembly.
    """
    lacking = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if lacking:
        raise BrowserError(
            f"{' and '.join(lacking)} missing; as root: "
            f"apt-get install {' '.join(lacking.values())}"
        )
    firmware = sources.firmware()
    library = firmware / "embbert"
    code = [*sorted((firmware / "browser").rglob("*.c")), *sorted(library.rglob("src/**/*.c"))]
    code += [firmware / name for name in _APPLICATION]
    includes = [firmware / "browser/libc", library / "include"]
    with tempfile.TemporaryDirectory(prefix="embbert-page-") as folder:
        target = pathlib.Path(folder) / "engine.wasm"
        command = ["clang", *_BARE, *_FLAGS, f"-DTEXT_BYTES={_TEXT_BYTES}"]
        command += [f"-I{include}" for include in includes]
        _run([*command, *map(str, code), *_LINK, "-o", str(target)])
        return files.read_bytes(target)


def compiler() -> str:
    """Returns the name and version of the compiler.

    Raises:
        BrowserError: It cannot be started.
    """
    return _run(["clang", "--version"]).splitlines()[0]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BrowserError(
            f"clang makes no WebAssembly of the firmware; it says:\n{done.stderr.strip()}\n"
            "install Debian's clang and lld"
        )
    return done.stdout
