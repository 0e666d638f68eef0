"""Measures the smallest arena of any `.tflite` on an emulated board, with TFLM at hand.

One program a library loads every model, in QEMU; what the arena takes does not depend on the board
around the core.
"""

import dataclasses
import json
import pathlib
import subprocess

from converters.firmware import sources
from converters.tflm import memory_planner, operators
from embbert_tf import errors
from embbert_tf.data import files

_SECONDS = 120.0
_STEP = memory_planner.ALIGNMENT
# Board -> core that it stands for, address and size of RAM beyond what its memory.ld names. No
# emulated Cortex-M0 has memory for these models; a Cortex-M3 runs the code of one as it is.
_BOARDS = {
    "mps2-an385": ("cortex-m0", 0x21000000, 16 << 20),
    "mps2-an386": ("cortex-m4", 0x21000000, 16 << 20),
    "mps2-an500": ("cortex-m7", 0x60000000, 16 << 20),
    "mps2-an505": ("cortex-m33", 0x80000000, 16 << 20),
    "mps3-an547": ("cortex-m55", 0x60000000, 64 << 20),
}
_THIRD_PARTIES = ("flatbuffers/include", "gemmlowp", "ruy")


class MeasureError(errors.EmbBertError):
    """A program cannot be built, or a model does not run in it; the message says why."""


def core_of(board: str) -> str:
    """Returns the core that a board stands for.

    Raises:
        MeasureError: There is no such board here.
    """
    if board not in _BOARDS:
        raise MeasureError(f"board '{board}': there are {', '.join(_BOARDS)}")
    return _BOARDS[board][0]


def all_operators() -> str:
    """Returns C++ that adds every operator that TFLM has, but those that other libraries bring."""
    methods = [*operators.BUILTIN.values()]
    methods += [
        method
        for name, method in operators.CUSTOM.items()
        if not name.startswith("Signal") and name != "ethos-u"
    ]
    lines = [f"  TF_LITE_ENSURE_STATUS(resolver.{method}());" for method in sorted(set(methods))]
    return "\n".join(
        [
            '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
            f"#define ALL_OPERATORS {len(lines)}",
            "template <typename Resolver>",
            "TfLiteStatus AddAllOperators(Resolver& resolver) {",
            *lines,
            "  return kTfLiteOk;",
            "}",
        ]
    )


@dataclasses.dataclass(frozen=True)
class Program:
    """The trial program for one library.

    Attributes:
        path: The ELF file.
        machine: QEMU's name of the board.
    """

    path: pathlib.Path
    machine: str

    def run(
        self,
        model: pathlib.Path,
        arena: int,
        index: int = 1,
        variables: int = 0,
        counted: bool = False,
    ) -> tuple[dict | None, str]:
        """Runs a model once.

        Args:
            model: The `.tflite`.
            arena: Bytes of the arena.
            index: What integer inputs are filled with.
            variables: Resource variables of the model.
            counted: Whether the emulator counts instructions, which takes it longer.

        Returns:
            `used_bytes`, `cost` in instructions where they are counted, and `crc` of the outputs,
            or None where it does not run; what was printed.
        """
        words = [str(model.resolve()), str(arena), str(index), str(variables)]
        command = "\n".join(words).replace(",", ",,")
        try:
            done = subprocess.run(
                [
                    *("qemu-system-arm", "-machine", self.machine, "-display", "none"),
                    *("-monitor", "none", "-serial", "null"),
                    # An instruction takes 128 ns of the board's clock: boards/emulate.sh.
                    *(("-icount", "shift=7") if counted else ()),
                    "-semihosting-config",
                    f"enable=on,target=native,arg=trial,arg={command}",
                    *("-kernel", str(self.path)),
                ],
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, "did not end"
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode == 0:
            return json.loads(text.strip().splitlines()[-1]), text
        return None, text

    def instructions(self, model: pathlib.Path, arena: int) -> int:
        """Returns the instructions of an inference.

        Args:
            model: The `.tflite`.
            arena: Bytes of an arena that is large enough.

        Raises:
            MeasureError: The model does not run.
        """
        found, text = self.run(model, arena, counted=True)
        if found is None:
            raise MeasureError(f"{model} does not run on {self.machine}: {text.strip()[-500:]}")
        return found["cost"]


def build(
    board: str, library: pathlib.Path, tflm_dir: pathlib.Path, folder: pathlib.Path
) -> Program:
    """Builds the trial program.

    Args:
        board: Of tflm_app/boards.
        library: libtensorflow-microlite.a for its core.
        tflm_dir: TFLM's headers.
        folder: Where the program goes.

    Raises:
        MeasureError: It does not compile or link.
    """
    core_of(board)
    app = sources.firmware()
    told = subprocess.run(
        ["make", "-s", "-C", str(app), f"TARGET={board}", "board"],
        capture_output=True,
        text=True,
        check=True,
    )
    settings = json.loads(told.stdout)
    files.make_folder(folder)
    files.write_text(folder / "all_operators.h", all_operators() + "\n")
    _, address, size = _BOARDS[board]
    attributes = subprocess.run(
        ["arm-none-eabi-readelf", "-A", str(library)], capture_output=True, text=True, check=False
    ).stdout
    hard = "Tag_ABI_VFP_args" in attributes
    cpu = [flag for flag in settings["cpu"].split() if not flag.startswith("-mfloat-abi")]
    cpu += ["-mfloat-abi=hard", "-mfpu=auto"] if hard else ["-mfloat-abi=soft"]
    downloads = [
        tflm_dir / at / name
        for at in ("third_party", "tensorflow/lite/micro/tools/make/downloads")
        for name in _THIRD_PARTIES
    ]
    common = [*cpu, "-mthumb", "-Os", "-ffunction-sections", "-fdata-sections", "-w"]
    common += [*settings["includes"].split(), f"-I{folder.resolve()}", "-Iembbert/include"]
    cxx = ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"]
    cxx += ["-DTF_LITE_STATIC_MEMORY", "-DTF_LITE_MCU_DEBUG_LOG", f"-isystem{tflm_dir.resolve()}"]
    cxx += [f"-isystem{path.resolve()}" for path in downloads if path.exists()]
    cxx += [f"-DTRIAL_MEMORY={address:#x}u", f"-DTRIAL_BYTES={size:#x}u", "-Itflm"]
    ours = ("any_model_trial", "embbert_ops", "embbert_scan_op")
    compiled = [(app / f"tflm/{name}.cc", cxx) for name in ours]
    parts = [*settings["sources"].split(), "app/bare_main.c", "tflm/libc_stubs.c"]
    kernels = [app / "tflm/embbert_scan.c", *sorted((app / "embbert/src/kernels").glob("*.c"))]
    compiled += [(app / part, ["-std=c11"]) for part in parts]
    compiled += [(part, ["-std=c11", "-Iembbert/src"]) for part in kernels]
    objects = []
    for number, (source, flags) in enumerate(compiled):
        objects.append(str((folder / f"{number}.o").resolve()))
        _call(["arm-none-eabi-g++" if source.suffix == ".cc" else "arm-none-eabi-gcc", *common,
               *flags, "-c", str(source), "-o", objects[-1]], app)  # fmt: skip
    program = folder.resolve() / "trial.elf"
    _call(["arm-none-eabi-g++", *cpu, "-mthumb", *settings["link"].split(), "-Wl,--gc-sections",
           "-o", str(program), *objects, str(library.resolve())], app)  # fmt: skip
    return Program(program, board)


def _call(command: list[str], folder: pathlib.Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeasureError(f"{' '.join(command)}:\n{done.stderr.strip()[-2000:]}")


def smallest(
    program: Program,
    model: pathlib.Path,
    guess: int,
    large: int,
    index: int = 1,
    variables: int = 0,
) -> int:
    """Finds the smallest arena with which a model answers as with a large one.

    Args:
        program: The trial program.
        model: The `.tflite`.
        guess: Where to look first, in bytes.
        large: An arena that surely suffices.
        index: As for `Program.run`.
        variables: As for `Program.run`.

    Raises:
        MeasureError: It does not run with `large` bytes.
    """
    wanted, words = program.run(model, large, index, variables)
    if wanted is None:
        raise MeasureError(f"{model}: does not run with {large} bytes: {words.strip()[-500:]}")

    def runs(arena: int) -> bool:
        return program.run(model, arena, index, variables)[0] == wanted

    low, high, step = 0, guess, _STEP
    while not runs(high):
        low, high, step = high, high + step, 4 * step
    step = _STEP
    while high - step > low and runs(high - step):
        high, step = high - step, 4 * step
    low = max(low, high - step)
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        if runs(middle):
            high = middle
        else:
            low = middle
    return high
