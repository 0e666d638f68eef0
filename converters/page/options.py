"""What a report page is made of."""

import dataclasses

from embbert_tf.model import option


@option.documented
@dataclasses.dataclass(frozen=True)
class PageOptions:
    """Options of `converters.write_page`."""

    data: str | None = option.option(
        None,
        "Labelled CSV of rows that the model has not learnt from; without it the page shows no "
        "answers but those to what is typed.",
    )
    run: str | None = option.option(
        None,
        "Run folder that the model was converted from; by default the model folder itself or `run` "
        "beside it, if that is the one.",
    )
    limit: int = option.option(
        0, "Take a sample of this many rows of the data; 0 takes all.", minimum=0
    )
    measure: bool = option.option(
        True,
        "Build the firmware and run it on an emulated Cortex-M4: for its flash, RAM and "
        "instructions, and to hold some of its logits against the reference.",
    )

    def __post_init__(self) -> None:
        option.check(self)
