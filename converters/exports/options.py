"""Options of an export."""

import dataclasses
import re

from embbert_tf import errors
from embbert_tf.model import option

ECOSYSTEMS = ("c", "cmake", "arduino", "platformio", "zephyr", "esp_idf", "cmsis_pack")
EMBBERT, TFLM = "embbert", "tflm"
# Of the ecosystems, those to which the user brings TensorFlow Lite Micro as headers and a library.
OF_TFLM = ("c", "cmake")
_LONGEST_NAME = 40


@option.documented
@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What a model's firmware is exported as."""

    ecosystem: str = option.option("c", "What the folder is for.", choices=ECOSYSTEMS)
    name: str = option.option(
        "model",
        "What the program calls the model: files, functions and constants begin with it, so that "
        "several models go into one program.",
    )
    max_tokens: int = option.option(
        0,
        "Texts end after so many tokens, and the RAM that the model takes shrinks with it; 0, or "
        "more than the model takes: as many as it takes.",
        minimum=0,
        maximum=1024,
    )
    runtime: str = option.option(
        EMBBERT,
        "What computes: this project's kernels, or TensorFlow Lite Micro, which the program brings "
        "along, with this project's fused operators.",
        choices=(EMBBERT, TFLM),
    )
    measure: bool = option.option(
        True,
        "Measure flash, RAM and instructions in the emulator; they are written down in the header.",
    )

    def __post_init__(self) -> None:
        option.check(self)
        if self.runtime == TFLM and self.ecosystem not in OF_TFLM:
            raise errors.OptionError(
                f"runtime tflm does not go with the ecosystem {self.ecosystem}, which brings along "
                "TensorFlow Lite Micro in its own way; export for c or cmake and add the files"
            )
        if self.max_tokens == 1:
            raise errors.OptionError(
                "max_tokens must be 0, or 2 at least, the first of which is [CLS]"
            )
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name):
            raise errors.OptionError(
                f"name must be a C identifier (letters, digits, _; a letter first), not "
                f"{self.name!r}"
            )
        if len(self.name) > _LONGEST_NAME:
            raise errors.OptionError(f"name must have at most {_LONGEST_NAME} letters")
        if self.ecosystem == "esp_idf" and len(self.name) < 2:
            raise errors.OptionError(
                "name must have two letters or more for ESP-IDF, whose component manager wants them"
            )
        if "__" in self.name or self.name.endswith("_"):
            raise errors.OptionError(
                f"name {self.name!r}: two underscores in a row are the compiler's own in C++"
            )
        if self.name.lower().startswith("embbert"):
            raise errors.OptionError(f"name {self.name!r}: such names are the library's own")
