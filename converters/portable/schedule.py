"""How the portable graph is cut into chunks of query rows, and the search for the best cut."""

import dataclasses

FINALISTS = 6  # cuts that are placed for real
MOST_PARTS = 10  # kMaxInputNum of TFLM's CONCATENATION

Groups = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the graph is cut.

    Attributes:
      groups: Query rows of each attention chunk, grouped: the convolution branch runs once a group.
        They sum to max_length and hold for all layers but the last.
      head_bytes: Predicted arena head.
      tail_bytes: Predicted arena tail (64-bit host).
      considered: (chunk count, predicted arena) of every cut that was weighed.
    """

    groups: Groups
    head_bytes: int
    tail_bytes: int
    considered: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        """Returns the choice as a line for people."""
        weighed = ", ".join(f"{count}: {size}" for count, size in self.considered)
        return (
            f"schedule: query rows {' | '.join('+'.join(map(str, g)) for g in self.groups)}"
            " (attention a chunk at a time, convolution once between bars); predicted arena "
            f"{self.head_bytes + self.tail_bytes} bytes (head {self.head_bytes}, tail "
            f"{self.tail_bytes}); weighed by number of chunks: {weighed}"
        )
