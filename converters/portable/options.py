"""Options of a conversion."""

import dataclasses

from converters.portable import npu as npu_lib
from embbert_tf.model import option


@option.documented
@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """How a trained model becomes a `.tflite`."""

    max_length: int = option.option(
        0,
        "Tokens of the graph's input; 0: what 99.5 % of the calibration texts need.",
        minimum=0,
    )
    count: int = option.option(256, "Texts of the calibration file to measure on.", minimum=1)
    seed: int = option.option(0, "Seed of the choice of those texts.")
    memory_plan: str = option.option(
        "offline",
        "Who places tensors in the arena: this converter, in the file's metadata, or TFLM's "
        "greedy planner.",
        choices=("offline", "greedy"),
    )
    npu: str = option.option(
        "",
        "An NPU that the graph is for after Arm's compiler Vela: without the operators that Vela "
        "would leave to the CPU. Answers stay the same; '' for none.",
        choices=("", *npu_lib.TARGETS),
    )

    def __post_init__(self) -> None:
        option.check(self)
