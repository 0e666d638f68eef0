"""Makes the folder that takes a model's firmware into a product."""

import dataclasses
import pathlib
import posixpath

from converters.exports import ecosystems, folder, measure, render, tflm
from converters.exports.options import TFLM, ExportOptions
from converters.firmware import from_model_folder, sources
from converters.tflite import model_folder
from embbert_tf.data import files


@dataclasses.dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        path: The folder.
        files: Paths of the files in it.
        figures: What the model costs a program; None when it was not measured.
        not_measured: Why it was not, or an empty string.
    """

    path: pathlib.Path
    files: list[str]
    figures: measure.Figures | None
    not_measured: str

    def summary(self) -> str:
        """Returns a few lines for people: where it is, and what the model costs a program."""
        lines = [f"{self.path}: {len(self.files)} files; README.md says how to use them"]
        if self.figures is None:
            return "\n".join([*lines, f"not measured: {self.not_measured}"])
        tokens, instructions = list(self.figures.infer.items())[-1]
        return "\n".join(
            [
                *lines,
                f"flash {self.figures.flash:,} bytes, the model's {self.figures.model:,} included",
                f"RAM {self.figures.ram:,} bytes, and {self.figures.stack:,} of stack",
                f"{instructions:,} instructions for {tokens} tokens ({measure.PROCESSOR})",
            ]
        )


def export_firmware(
    model: model_folder.ModelFolder | files.PathLike,
    output: files.PathLike,
    options: ExportOptions | None = None,
) -> Export:
    """Exports a model and the library that runs it as a folder of an ecosystem.

    Example:
    ```python
    import converters

    options = converters.ExportOptions(ecosystem="cmake", name="snips")
    converters.export_firmware("zoo/snips", "third_party/snips", options)
    ```

    Args:
        model: What `converters.convert` returned, or a model folder.
        output: The folder to write, whole or not at all: a new or an empty one, or an earlier
            export in which nobody has changed anything.
        options: Ecosystem, name and more.

    Raises:
        ExportError: There are files in `output` that no export wrote, or the figures cannot be
            measured.
        ModelFolderError: The model folder is incomplete or inconsistent.
        FirmwareError: The firmware cannot run the model.
        FileError: The folder cannot be written.
    """
    options = options or ExportOptions()
    folder.check(output)
    if not isinstance(model, model_folder.ModelFolder):
        model = model_folder.load(sources.model(model))
    image = from_model_folder.image_of(model, options.name)
    fused = tflm.fused(model, options.name) if options.runtime == TFLM else None
    return export_image(image, output, options, fused)


def export_image(
    image: bytes,
    output: files.PathLike,
    options: ExportOptions,
    fused: tflm.FusedModel | None = None,
) -> Export:
    """Exports a model image; otherwise as `export_firmware`.

    Args:
        image: The image for the kernels.
        output: The folder.
        options: Ecosystem, name and more.
        fused: The same model for TensorFlow Lite Micro, if that shall run it.
    """
    ecosystem = ecosystems.ECOSYSTEMS[options.ecosystem]
    contents = _library(ecosystem, fused is not None)
    header = posixpath.normpath(f"{ecosystem.model_include}/{options.name}_model.h")
    source = posixpath.normpath(f"{ecosystem.model}/{options.name}_model.c")
    values = {
        **render.values(image, options, fused),
        "ecosystem": ecosystem,
        "library_sources": sorted(name for name in contents if name.endswith((".c", ".cc"))),
        "library_headers": sorted(name for name in contents if name.endswith(".h")),
        "example": ecosystem.files[ecosystem.example].format(name=options.name),
        "model_source": source,
        "model_header": header,
    }
    contents[source] = render.render("model.c.j2", values)
    not_measured = measure.missing() if options.measure else "it was not asked for"
    if fused is not None:
        not_measured = "most of it is the program's TensorFlow Lite Micro"
    figures = None if not_measured else _measure(contents, values)
    values |= {"figures": figures, "not_measured": not_measured}
    contents[header] = render.render("model.h.j2", values)
    contents["README.md"] = render.render("README.md.j2", values)
    contents["LICENSE"] = files.read_bytes(sources.root() / "LICENSE")
    for template, path in ecosystem.files.items():
        contents[path.format(name=options.name)] = render.render(template, values)
    facts = {
        "generator": f"{render.GENERATOR} {render.VERSION}",
        "for": options.ecosystem,
        "name": options.name,
        "image_sha256": values["image_sha256"],
    }
    folder.write(output, contents, facts)
    return Export(pathlib.Path(output), sorted(contents), figures, not_measured)


def _library(ecosystem: ecosystems.Ecosystem, with_tflm: bool) -> dict[str, bytes]:
    """Returns the library's files by their path in the export."""
    library = sources.firmware() / "embbert"
    contents = {}
    if with_tflm:
        for names, target in (
            (tflm.HEADERS, ecosystem.include),
            (tflm.SOURCES, ecosystem.sources),
        ):
            for name in names:
                content = files.read_bytes(sources.firmware() / "tflm" / name)
                contents[posixpath.normpath(f"{target}/{name}")] = content
    for below, target in (("include", ecosystem.include), ("src", ecosystem.sources)):
        for path in sorted((library / below).rglob("*.[ch]")):
            name = path.relative_to(library / below).as_posix()
            contents[posixpath.normpath(f"{target}/{name}")] = files.read_bytes(path)
    for name, target in ecosystem.of_library.items():
        contents[target] = files.read_bytes(library / name)
    return contents


def _measure(contents: dict[str, bytes], values: dict) -> measure.Figures:
    """Measures with a header that does not have the figures yet."""
    header = render.render("model.h.j2", {**values, "figures": None, "not_measured": "yet"})
    return measure.measure(
        {**contents, values["model_header"]: header},
        render.render("measure.c.j2", values).decode(),
        [values["model_source"], *values["library_sources"]],
        [values["ecosystem"].include, values["ecosystem"].model_include],
    )
