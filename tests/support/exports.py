"""Small models to export, and what the example of an export must print."""

import dataclasses
import itertools
import pathlib
import re

import numpy as np

from converters.exports import exporter
from converters.exports.options import ExportOptions
from tests.support.firmware_model import ROOT, SENTENCES, TinyModel
from tests.support.runs import output_of

# With example/qemu_vectors.c of an export, a program for the emulated board; and the emulator.
ARM = (
    "arm-none-eabi-gcc -mthumb -mcpu=cortex-m4 --specs=rdimon.specs "
    "-Wl,-u,embbert_vectors,--section-start=.vectors=0"
)
QEMU = (
    "qemu-system-arm -machine mps2-an386 -display none -monitor none -serial null "
    "-semihosting-config enable=on,target=native -kernel"
)
# Of every kind of task.
KINDS = {
    "label": {},
    "two_labels": {"names": ["on", "off"], "seed": 3},
    "many_labels": {"names": [f"label {i}" for i in range(500)], "blocks": 3, "e": 2},
    "pair": {"pair": True, "seed": 4},
    "score": {"regression": True, "seed": 5},
    "pair_score": {"pair": True, "regression": True, "d": 32, "max_length": 48},
}


SENTENCE = "play some quiet jazz"  # of the README of an export


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, lines for its example, and the lines that this must print."""

    name: str
    image: bytes
    inputs: str
    outputs: list[str]


@dataclasses.dataclass(frozen=True)
class Kind:
    """The same for a small model of one kind."""

    name: str
    model: TinyModel

    @property
    def image(self) -> bytes:
        """The model image."""
        return self.model.image

    @property
    def inputs(self) -> str:
        """The lines that the example reads."""
        if not self.model.model.pair:
            return "\n".join(SENTENCES) + "\n"
        return "".join(f"{text}\n{pair}\n" for text, pair in self._pairs())

    @property
    def outputs(self) -> list[str]:
        """The lines that it prints."""
        pairs = self._pairs() if self.model.model.pair else [(text, None) for text in SENTENCES]
        if self.model.labels == ["score"]:
            return [f"score {self.model.score(*texts):.3f}" for texts in pairs]
        answers = [self.model.answer(*texts) for texts in pairs]
        return [f"{label} {confidence:.2f} %" for label, confidence in answers]

    def _pairs(self):
        return list(itertools.pairwise(SENTENCES))


def kind(name: str, folder: pathlib.Path) -> Kind:
    """The model of a kind, made in a folder."""
    return Kind(name, TinyModel(folder / name, **KINDS[name]))


def export(image: bytes, output: pathlib.Path, **options) -> exporter.Export:
    """Exports an image, unmeasured unless the options say otherwise."""
    return exporter.export_image(image, output, ExportOptions(**{"measure": False, **options}))


def export_two(folder: pathlib.Path, snips: Case, ecosystem: str) -> dict[str, Case]:
    """Exports the zoo's model and a small one, each to the folder of its name; returns both."""
    models = {
        "snips": snips,
        "pair_score": kind("pair_score", folder.with_name(f"{folder.name}_models")),
    }
    for name, model in models.items():
        export(model.image, folder / name, name=name, ecosystem=ecosystem)
    return models


def check_sizes(ecosystem: str, program: pathlib.Path) -> None:
    """Holds the example of zoo/snips against the table of README.md, for its flash and RAM."""
    listing = shell(f"arm-none-eabi-size {program}", program.parent)
    text, data, bss = map(int, listing.splitlines()[1].split()[:3])
    check_row(f"`{ecosystem}`", text + data, data + bss)


def check_row(title: str, flash: int, ram: int) -> None:
    """Holds bytes against a row of README.md's table, to a few per cent."""
    table = (ROOT / "README.md").read_text()
    (row,) = re.findall(rf"^\| {title} \|.*$", table, re.MULTILINE)
    said = [int(cell.replace(",", "")) for cell in re.findall(r"(?<=\| )[\d,]+(?= \|)", row)]
    assert np.allclose(said, [flash, ram], rtol=0.03), f"{row} but measured {flash}, {ram}"


def commands(readme: pathlib.Path) -> list[str]:
    """The lines of shell that a README shows."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def with_call(example: pathlib.Path, start: str) -> str:
    """An example whose main function, which starts so, opens the model snips before its own."""
    text = example.read_text()
    assert text.count(start) == 1
    return text.replace(start, f"{start}  (void)snips_open(&engine, NULL, 0);\n")


def shell(command: str, folder: pathlib.Path, text: str | None = None) -> str:
    """What a command prints that must succeed; `text` is its input."""
    return output_of(["sh", "-c", command], folder, input=text)
