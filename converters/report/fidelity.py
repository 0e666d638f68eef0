"""Compares every activation of an int8 graph on TFLM with its float reference."""

import csv
import dataclasses
import pathlib
import random
from collections.abc import Iterable
from typing import Any

import numpy as np

from converters.kernels import recognize
from converters.tflite import model_folder, quantize, reader
from converters.tflite import writer as writer_lib
from converters.tflm import memory_planner
from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files, tokenizer
from embbert_tf.data.files import PathLike
from embbert_tf.quantization import folding
from embbert_tf.storage import run_folder

_ARENA_BYTES = 64 << 20
_COLUMNS = (
    "rank",
    "tensor",
    "layer",
    "snr_db",
    "own_snr_db",
    "clipped",
    "low",
    "high",
    "int8_low",
    "int8_high",
    "scale",
    "zero_point",
    "values",
)
_BEST_DB = 99.0  # instead of infinity, where int8 and float agree exactly


@dataclasses.dataclass
class Fidelity:
    """How faithful one activation is, summed over all sequences.

    Attributes:
        name: Of the activation.
        scale: Quantization of the tensor.
        zero_point: Likewise.
        floor: Least representable value.
        ceiling: Largest representable value.
        low: Least float value seen.
        high: Largest float value seen.
        count: Values compared.
        outside: Float values that are not representable.
        signal: Sum of squares of the float values.
        noise: Sum of squares of TFLM's deviation from them.
        own_noise: Sum of squares of the deviation that this tensor's int8 alone makes.
    """

    name: str
    scale: float
    zero_point: int
    floor: float
    ceiling: float
    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    outside: int = 0
    signal: float = 0.0
    noise: float = 0.0
    own_noise: float = 0.0

    def add(self, reference: np.ndarray, value: np.ndarray) -> None:
        """Compares float values with what TFLM computed (dequantized), both of one shape."""
        reference = reference.astype(np.float64)
        self.low = min(self.low, float(reference.min()))
        self.high = max(self.high, float(reference.max()))
        self.count += reference.size
        # Half a step beyond the last value still rounds to it.
        half = self.scale / 2
        self.outside += int(
            np.sum((reference < self.floor - half) | (reference > self.ceiling + half))
        )
        if self.name.startswith("scores"):
            reference = np.maximum(reference, self.floor)
        alone = np.clip(np.round(reference / self.scale) * self.scale, self.floor, self.ceiling)
        self.signal += float(np.sum(reference**2))
        self.noise += float(np.sum((value - reference) ** 2))
        self.own_noise += float(np.sum((alone - reference) ** 2))

    @property
    def snr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels."""
        return _decibels(self.signal, self.noise)

    @property
    def own_snr_db(self) -> float:
        """The same with this tensor alone in int8."""
        return _decibels(self.signal, self.own_noise)

    @property
    def clipped(self) -> float:
        """Share of float values outside the representable range."""
        return self.outside / max(self.count, 1)


def _decibels(signal: float, noise: float) -> float:
    if noise <= 0 or signal <= 0:
        return _BEST_DB if noise <= 0 else -_BEST_DB
    return min(10 * float(np.log10(signal / noise)), _BEST_DB)


class Inspector:
    """Runs a portable graph on TFLM with every tensor kept, and a float model beside it.

    Example:
    ```python
    import embbert_tf
    from embbert_tf.quantization import folding

    run = embbert_tf.load_run("build/run")
    with open("build/model/model.tflite", "rb") as file:
        inspector = Inspector(file.read(), folding.fold(run.qat_model))
    inspector.run([2, 7, 9])
    worst = min(inspector.fidelity.values(), key=lambda f: f.snr_db)
    ```

    Args:
        tflite: The portable `.tflite`.
        folded: The float model that it was made from.

    Attributes:
        fidelity: `Fidelity` of each activation by name, in the order of computation.
        length: Tokens of the graph's input.

    Raises:
        NotEmbBertError: `tflite` is another graph.
        FlatbufferError: It is no readable `.tflite`.
    """

    def __init__(self, tflite: bytes, folded: folding.FoldedModel):
        from tflite_micro.python.tflite_micro import runtime

        graph = reader.read(tflite)
        parts = recognize.activations(graph)
        # The offline plan lets tensors share bytes; without it TFLM keeps each for itself.
        graph.metadata.pop(memory_planner.OFFLINE_METADATA, None)
        index = {id(t): i for i, t in enumerate(graph.ordered_tensors())}
        self._interpreter = runtime.Interpreter.from_bytes(
            writer_lib.write(graph),
            arena_size=_ARENA_BYTES,
            intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
        )
        self._folded = folded
        self.length = graph.inputs[0].shape[-1]
        self._pair = len(graph.inputs) > 1
        self._parts = {
            name: [(index[id(p.tensor)], p) for p in parts[name]]
            for name in folding.activation_names(folded.config)
            if name in parts  # attention on int16 computes no v
        }
        self.fidelity: dict[str, Fidelity] = {}
        for name, found in self._parts.items():
            tensor = found[0][1].tensor
            limits = np.iinfo(tensor.dtype)
            zero = int(tensor.zero_point)
            step = float(tensor.scale) / found[0][1].factor
            self.fidelity[name] = Fidelity(
                name,
                step,
                zero,
                (limits.min - zero) * step,
                (limits.max - zero) * step,
            )

    def run(self, ids: list[int]) -> None:
        """Adds one sequence of token ids, without padding, to the figures."""
        ids = list(ids)[: self.length]
        self._interpreter.set_input(model_folder.pad(ids, self.length), 0)
        if self._pair:
            segments = tokenizer.segment_ids(ids)
            self._interpreter.set_input(model_folder.pad(segments, self.length), 1)
        self._interpreter.invoke()
        folding.forward(self._folded, ids, tap=self._compare)

    def _compare(self, name: str, reference: np.ndarray) -> None:
        if name not in self._parts:
            return
        reference = np.atleast_2d(reference)
        rows, columns = reference.shape
        value = np.zeros((rows, columns))
        filled = 0
        for index, part in self._parts[name]:
            if part.row >= rows:
                continue
            tensor = part.tensor
            raw = np.asarray(self._interpreter.GetTensor(index, 0)["tensor_data"])
            raw = raw.reshape(tensor.shape[-2:] if len(tensor.shape) > 1 else (1, -1))
            raw = raw.T if part.transposed else raw
            here = min(raw.shape[0], rows - part.row)
            value[part.row : part.row + here] = (
                raw[:here, :columns].astype(np.float64) - int(tensor.zero_point)
            ) * (float(tensor.scale) / part.factor)
            filled += here
        if filled != rows:
            raise ValueError(f"activation '{name}': {filled} rows of {rows} found in the graph")
        self.fidelity[name].add(reference, value)


def rank_layers(fidelity: dict[str, Fidelity]) -> list[tuple[int, float, float]]:
    """Returns (layer, SNR of its output in dB, dB lost in it), the greatest loss first."""
    result = []
    layer = 0
    while f"x{layer + 1}" in fidelity:
        after = fidelity[f"x{layer + 1}"].snr_db
        result.append((layer, after, fidelity[f"x{layer}"].snr_db - after))
        layer += 1
    return sorted(result, key=lambda item: -item[2])


def inspect(
    run_path: PathLike,
    tflite_path: PathLike,
    data: PathLike,
    limit: int = 32,
    seed: int = 0,
) -> tuple[dict[str, Fidelity], str]:
    """Compares a converted model with the run that it was made from.

    Args:
        run_path: The run folder.
        tflite_path: The portable `.tflite`, or its model folder.
        data: CSV to draw texts from.
        limit: Texts to run through both.
        seed: Of the draw.

    Returns:
        `Fidelity` by name of the activation, and a line that says what was compared.

    Raises:
        NotEmbBertError, FlatbufferError: The file is another graph, or no readable `.tflite`.
        OptionError: The run is of a model that EmbBERT is compared with.
        RunError: The run cannot be read, or the model was made from another one.
        DataError: The CSV cannot be used.
        FileError: The `.tflite` cannot be read.
    """
    path = pathlib.Path(tflite_path)
    tflite = _read_tflite(path)
    config = run_folder.read_config(run_path)
    if isinstance(config, BaselineConfig):
        raise errors.OptionError(
            f"{run_path}: {config.what}; the error of each tensor is told of EmbBERT's graph alone"
        )
    recognize.extract(tflite)  # refuses any other graph before the run takes its time
    run = run_folder.load_run(run_path)
    examples = list(examples_lib.read_examples(data))
    if not examples:
        raise errors.DataError(f"{data}: no rows after the header")
    folded, reference = float_model(run, tflite)
    chosen = random.Random(seed).sample(examples, min(limit, len(examples)))
    inspector = Inspector(tflite, folded)
    for example in chosen:
        second = example.text_pair if run.pair else None
        ids = tokenizer.encode(run.tokenizer, example.text, second, inspector.length)
        inspector.run(ids)
    title = f"{path}: {len(chosen)} texts of {data}, TFLM against {reference}"
    return inspector.fidelity, title


def _read_tflite(path: pathlib.Path) -> bytes:
    return model_folder.load(path).tflite if path.is_dir() else files.read_bytes(path)


def describe(fidelity: dict[str, Fidelity]) -> str:
    """Returns both rankings, of layers and of tensors, as lines for people."""
    lines = ["layers by the SNR lost in them:"]
    for layer, after, loss in rank_layers(fidelity):
        lines.append(f"  layer {layer}: {loss:5.1f} dB lost, {after:5.1f} dB at its output")
    lines.append("tensors, worst first:")
    lines.append("  tensor     SNR dB  own dB  clipped        fp32 range          int8 range")
    for f in sorted(fidelity.values(), key=lambda f: f.snr_db):
        lines.append(
            f"  {f.name:<9}{f.snr_db:>8.1f}{f.own_snr_db:>8.1f}{f.clipped:>9.2%}"
            f"  {f.low:>9.3g} .. {f.high:<8.3g}{f.floor:>9.3g} .. {f.ceiling:<8.3g}"
        )
    return "\n".join(lines)


def float_model(run: Any, tflite: bytes) -> tuple[folding.FoldedModel, str]:
    """Returns the run's float weights from which a `.tflite` was rounded: fp32's or QAT's.

    Args:
        run: From `load_run`.
        tflite: The portable `.tflite`.

    Returns:
        The folded weights, and which they are: "fp32" or "quantization-aware fp32".

    Raises:
        RunError: The `.tflite` was made from another run.
    """
    token = recognize.extract(tflite).token
    for model, name in ((run.model, "fp32"), (run.qat_model, "quantization-aware fp32")):
        if model is not None:
            folded = folding.fold(model)
            scale = folded.table_scales()[0]
            if np.array_equal(quantize.rounded(folded.token, scale), token):
                return folded, name
    raise errors.RunError(
        f"the .tflite was not converted from {run.path} (its token table differs); convert again"
    )


def split(name: str) -> tuple[str, int]:
    """Returns kind and number of an activation's name: ("xhat", 2); -1 where it has no number."""
    kind = folding.kind(name)
    return kind, int(name[len(kind) :] or -1)


def kinds_in_order(names: Iterable[str]) -> list[str]:
    """Returns the kinds of activations that layers make, in the order of computation."""
    found = list(dict.fromkeys(split(name)[0] for name in names))
    # What the last layer alone has (c) stands beside what the others have (v).
    if "c" in found and "v" in found:
        found.remove("c")
        found.insert(found.index("v") + 1, "c")
    found.append(found.pop(found.index("x")))
    return found


def write_csv(fidelity: dict[str, Fidelity], path: PathLike) -> None:
    """Writes one row a tensor, worst SNR first.

    Raises:
        FileError: The file cannot be written.
    """
    ranked = sorted(fidelity.values(), key=lambda f: f.snr_db)

    def write(target: pathlib.Path) -> None:
        with open(target, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for number, f in enumerate(ranked, 1):
                layer = "" if f.name in ("x0", "logits") else layer_of(f.name)
                figures = (f.snr_db, f.own_snr_db, f.clipped, f.low, f.high, f.floor, f.ceiling)
                writer.writerow(
                    [number, f.name, layer]
                    + [f"{value:.6g}" for value in (*figures, f.scale)]
                    + [f.zero_point, f.count]
                )

    files.write_atomic(path, write)


def layer_of(name: str) -> int:
    """Returns the layer that makes an activation."""
    kind, number = split(name)
    return number - 1 if kind == "x" else number
