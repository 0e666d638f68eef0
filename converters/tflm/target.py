"""The processors that the arena is predicted for, and the kernels that TFLM is built with there."""

import dataclasses

from embbert_tf import errors

KERNELS = ("cmsis_nn", "reference")


@dataclasses.dataclass(frozen=True)
class Target:
    """A core with 32-bit pointers, as GCC for Arm lays out C++ there, and TFLM's kernels.

    Attributes:
        core: Such as "cortex-m4".
        kernels: "cmsis_nn" or "reference", TFLM's OPTIMIZED_KERNEL_DIR or its lack.
        extension: What CMSIS-NN and this project's kernels use of it: "none", "dsp" (Armv7E-M and
            Armv8-M with DSP) or "mve" (Helium).
    """

    core: str
    kernels: str
    extension: str

    @property
    def cmsis(self) -> bool:
        """Whether CMSIS-NN's kernels are in use."""
        return self.kernels == "cmsis_nn"

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.core}, {'CMSIS-NN' if self.cmsis else 'reference kernels'}"


EXTENSIONS = {
    "cortex-m0": "none",
    "cortex-m4": "dsp",
    "cortex-m7": "dsp",
    "cortex-m33": "dsp",
    "cortex-m55": "mve",
}


def make(core: str, kernels: str) -> Target:
    """Returns a target by its names.

    Raises:
        OptionError: There is no such core, or there are no such kernels.
    """
    if core not in EXTENSIONS:
        raise errors.OptionError(f"target '{core}': choose one of {', '.join(EXTENSIONS)}")
    if kernels not in KERNELS:
        raise errors.OptionError(f"kernels '{kernels}': choose one of {', '.join(KERNELS)}")
    return Target(core, kernels, EXTENSIONS[core])


def chosen(core: str | None = None, kernels: str | None = None) -> list[Target]:
    """Returns the targets that two names choose; None stands for all.

    Raises:
        OptionError: As `make`.
    """
    return [
        make(a, b)
        for a in ([core] if core else EXTENSIONS)
        for b in ([kernels] if kernels else KERNELS)
    ]
