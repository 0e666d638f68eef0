"""MAMBA's selective scan of TFLM's own operators: what `EMBBERT_SELECTIVE_SCAN` is held against.

TFLM has EXP and LOG for float32 alone, so the step sizes and the decays are float32 between int8
and int16; products, sums and the state are int16. Three arrangements: every token by operators of
its own, WHILE over the tokens, and all tokens at once in log2(S) rounds of doubling distance.
"""

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.portable.builder import Builder
from converters.tflite import graph as graph_lib
from converters.tflite import quantize, writer
from converters.tflite.graph import Graph, Op, Tensor

_MOST_INPUTS = 10  # Of TFLM's CONCATENATION.


@dataclasses.dataclass(frozen=True)
class Scan:
    """A scan with inputs, and what of it is quantized how.

    Attributes:
        floats: u and steps (S, ED), B and C (S, N).
        log_decay: (ED, N).
        skip: (ED,).
        quantizations: int8 of the four inputs and of y.
        scales: int16 of what lies between, by name.
        y: The result in float64, (S, ED).
    """

    floats: tuple[np.ndarray, ...]
    log_decay: np.ndarray
    skip: np.ndarray
    quantizations: tuple[quantize.Quantization, ...]
    scales: dict[str, float]
    y: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """S, ED and N."""
        return (*self.floats[0].shape, self.log_decay.shape[1])


def sample(length: int, channels: int = 64, states: int = 6, seed: int = 0) -> Scan:
    """Draws a scan of MAMBA's sizes, with step sizes from 0.001 to 0.1 about which they vary."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(length, channels))
    means = np.log(np.expm1(np.exp(rng.uniform(np.log(0.001), np.log(0.1), channels))))
    steps = means + rng.normal(size=(length, channels))
    ins, outs = rng.normal(size=(2, length, states))
    log_decay = np.log(np.arange(1, states + 1)) + 0.3 * rng.normal(size=(channels, states))
    skip = 1 + 0.3 * rng.normal(size=channels)
    drawn = (z / (1 + np.exp(-z)), steps, ins, outs)
    quantizations = [quantize.activation(float(x.min()), float(x.max())) for x in drawn]
    pairs = zip(quantizations, drawn, strict=True)
    floats = tuple(q.scale * (q.quantize(x).astype(float) - q.zero_point) for q, x in pairs)
    scales, y = _scales(floats, log_decay, skip)
    quantizations.append(quantize.activation(float(y.min()), float(y.max())))
    return Scan(floats, log_decay, skip, tuple(quantizations), scales, y)


def _scales(
    floats: tuple[np.ndarray, ...], log_decay: np.ndarray, skip: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Runs the scan in float64 and takes the largest values of everything."""
    u, steps, ins, outs = floats
    delta, rates = np.logaddexp(0, steps), np.exp(log_decay)
    state, states = np.zeros(log_decay.shape), []
    for t in range(len(u)):
        state = np.exp(-delta[t][:, np.newaxis] * rates) * state
        state = state + np.outer(delta[t] * u[t], ins[t])
        states.append(state)
    scanned = np.einsum("tds,ts->td", np.array(states), outs)
    passed = skip * u
    most = {
        "delta": delta,
        "stepped": delta * u,
        "exponent": delta.max() * rates.max(),
        "rates": rates,
        "state": np.array(states),
        "scanned": scanned,
        "skip": skip,
        "y": np.array([scanned, passed, scanned + passed]),
    }
    scales = {name: float(1.01 * np.abs(value).max() / 32767) for name, value in most.items()}
    return {**scales, "kept": 1 / 32767}, scanned + passed


class _Parts(Builder):
    """Adds the parts that all arrangements share; shapes are those of one token or of all."""

    def __init__(self, scan: Scan) -> None:
        super().__init__()
        self.scan = scan

    def int16(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.wide(name, shape, self.scan.scales[name])

    def shaped(self, x: Tensor, *shape: int) -> Tensor:
        size = self.constant("shape", np.array(shape, np.int32))
        y = Tensor(x.name, shape, x.dtype, x.scale, x.zero_point)
        return self.add("RESHAPE", [x, size], y, newShape=list(shape))

    def plain(self, kind: str, inputs: list[Tensor], output: Tensor, version: int = 1) -> Tensor:
        """Adds an operator that the schema has no options for."""
        self.ops.append(Op(kind, [*inputs], [output], None, version))
        return output

    def inputs(self) -> list[Tensor]:
        length, channels, states = self.scan.shape
        names = ("u", "steps", "state_in", "state_out")
        widths = (channels, channels, states, states)
        return [
            self.activation(name, (length, width), q)
            for name, width, q in zip(names, widths, self.scan.quantizations, strict=False)
        ]

    def steps(self, inputs: list[Tensor]) -> list[Tensor]:
        """Returns int16 step sizes, step sizes times u, B, C, and D times u; all of all tokens."""
        u, steps, ins, outs = inputs
        shape = u.shape
        u16, ins16, outs16 = (
            self.add("QUANTIZE", [x], self.wide(x.name, x.shape, x.scale), 2)
            for x in (u, ins, outs)
        )
        x = self.add("DEQUANTIZE", [steps], Tensor("steps", shape, np.float32), 2)
        x = self.add("EXP", [x], Tensor("exp", shape, np.float32))
        one = self.constant("one", np.ones((1, 1), np.float32))
        x = self.add("ADD", [x, one], Tensor("sum", shape, np.float32))
        x = self.plain("LOG", [x], Tensor("softplus", shape, np.float32))
        delta = self.add("QUANTIZE", [x], self.int16("delta", shape))
        stepped = self.add("MUL", [delta, u16], self.int16("stepped", shape))
        skip = self.fixed("skip", self.scan.skip[np.newaxis])
        return [delta, stepped, ins16, outs16, self.add("MUL", [u16, skip], self.int16("y", shape))]

    def fixed(self, name: str, values: np.ndarray) -> Tensor:
        scale = self.scan.scales[name]
        return self.constant(name, np.round(values / scale).astype(np.int16), scale)

    def kept(self, delta: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Returns the decays of step sizes (..., ED, 1)."""
        rates = self.fixed("rates", -np.exp(self.scan.log_decay))
        x = self.add("MUL", [delta, rates], self.int16("exponent", shape))
        x = self.add("DEQUANTIZE", [x], Tensor("exponent", shape, np.float32), 3)
        x = self.add("EXP", [x], Tensor("decay", shape, np.float32))
        return self.add("QUANTIZE", [x], self.int16("kept", shape))

    def step(self, rows: list[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the next state and y of a token's rows of what `steps` returns."""
        delta, stepped, ins, outs = rows
        _, channels, states = self.scan.shape
        shape = (1, channels, states)
        stepped, ins = self.shaped(stepped, 1, channels, 1), self.shaped(ins, 1, 1, states)
        moved = self.add("MUL", [stepped, ins], self.int16("state", shape))
        if state is not None:
            kept = self.kept(self.shaped(delta, 1, channels, 1), shape)
            kept = self.add("MUL", [kept, state], self.int16("state", shape))
            moved = self.add("ADD", [kept, moved], self.int16("state", shape))
        outs = self.shaped(outs, 1, states, 1)
        y = self.add("BATCH_MATMUL", [moved, outs], self.int16("scanned", (1, channels, 1)))
        return moved, self.shaped(y, 1, channels)

    def row(self, x: Tensor, begin: Tensor) -> Tensor:
        size = self.constant("size", np.array([1, x.shape[1]], np.int32))
        return self.add("SLICE", [x, begin, size], Tensor("row", (1, x.shape[1]), x.dtype, x.scale))

    def finish(self, inputs: list[Tensor], scanned: Tensor, passed: Tensor) -> Graph:
        total = self.add("ADD", [scanned, passed], self.int16("y", passed.shape))
        y = self.narrow(total, self.scan.quantizations[4])
        return Graph(inputs, [y], self.ops)


def unrolled(scan: Scan) -> bytes:
    """Returns a `.tflite` in which every token has operators of its own."""
    b = _Parts(scan)
    inputs = b.inputs()
    *steps, passed = b.steps(inputs)
    state, rows = None, []
    for t in range(scan.shape[0]):
        begin = b.constant("begin", np.array([t, 0], np.int32))
        state, y = b.step([b.row(x, begin) for x in steps], state)
        rows.append(y)
    while len(rows) > 1:
        groups = [rows[i : i + _MOST_INPUTS] for i in range(0, len(rows), _MOST_INPUTS)]
        rows = [b.join(group) for group in groups]
    return writer.write(b.finish(inputs, rows[0], passed))


def doubling(scan: Scan) -> bytes:
    """Returns a `.tflite` of log2(S) rounds over all tokens (Hillis and Steele, 1986)."""
    b, (length, channels, states) = _Parts(scan), scan.shape
    shape = (length, channels, states)
    inputs = b.inputs()
    delta, stepped, ins, outs, passed = b.steps(inputs)
    kept = b.kept(b.shaped(delta, length, channels, 1), shape)
    stepped, ins = b.shaped(stepped, length, channels, 1), b.shaped(ins, length, 1, states)
    state = b.add("MUL", [stepped, ins], b.int16("state", shape))

    def before(x: Tensor, distance: int) -> Tensor:
        amounts = b.constant("amounts", np.array([[distance, 0], [0, 0], [0, 0]], np.int32))
        padded = Tensor("padded", (length + distance, *shape[1:]), np.int16, x.scale)
        b.add("PAD", [x, amounts], padded, 2)
        begin = b.constant("begin", np.zeros(3, np.int32))
        size = b.constant("size", np.array(shape, np.int32))
        return b.add("SLICE", [padded, begin, size], Tensor(x.name, shape, np.int16, x.scale))

    distance = 1
    while distance < length:
        more = b.add("MUL", [kept, before(state, distance)], b.int16("state", shape))
        state = b.add("ADD", [state, more], b.int16("state", shape))
        if 2 * distance < length:
            kept = b.add("MUL", [kept, before(kept, distance)], b.int16("kept", shape))
        distance *= 2
    columns = b.shaped(outs, length, states, 1)
    y = b.add("BATCH_MATMUL", [state, columns], b.int16("scanned", (length, channels, 1)))
    return writer.write(b.finish(inputs, b.shaped(y, length, channels), passed))


def looped(scan: Scan) -> bytes:
    """Returns a `.tflite` with WHILE over the tokens."""
    b, (length, channels, states) = _Parts(scan), scan.shape
    inputs = b.inputs()
    *steps, passed = b.steps(inputs)
    start = [
        b.constant("t", np.zeros(1, np.int32)),
        b.constant("state", np.zeros((1, channels, states), np.int16), scan.scales["state"]),
        b.constant("rows", np.zeros((length, channels), np.int16), scan.scales["scanned"]),
    ]
    carried = [*start, *steps]

    def like() -> list[Tensor]:
        return [Tensor(x.name, x.shape, x.dtype, x.scale) for x in carried]

    ends = like()
    options = graph_lib.options("WHILE", condSubgraphIndex=1, bodySubgraphIndex=2)
    b.ops.append(Op("WHILE", [*carried], ends, options))
    whole = b.finish(inputs, ends[2], passed)

    asked, of_condition = _Parts(scan), like()
    most = asked.constant("S", np.array([length], np.int32))
    going_on = asked.add("LESS", [of_condition[0], most], Tensor("on", (1,), np.bool_))
    condition = Graph(of_condition, [going_on], asked.ops)

    inner, of_body = _Parts(scan), like()
    t, state, rows, *per_token = of_body
    zero = inner.constant("zero", np.zeros(1, np.int32))
    begin = inner.add("CONCATENATION", [t, zero], Tensor("begin", (2,), np.int32), axis=0)
    state, y = inner.step([inner.row(x, begin) for x in per_token], state)
    filled = Tensor("rows", rows.shape, np.int16, rows.scale)
    rows = inner.plain("DYNAMIC_UPDATE_SLICE", [rows, y, begin], filled)
    one = inner.constant("one", np.ones(1, np.int32))
    t = inner.add("ADD", [t, one], Tensor("t", (1,), np.int32))
    body = Graph(of_body, [t, state, rows, *per_token], inner.ops)
    return _together([whole, condition, body])


def custom(scan: Scan) -> bytes:
    """Returns a `.tflite` of EMBBERT_SELECTIVE_SCAN alone."""
    b = _Parts(scan)
    inputs = b.inputs()
    y = b.activation("y", inputs[0].shape, scan.quantizations[4])
    b.selective_scan(inputs, y, scan.log_decay, scan.skip)
    return writer.write(Graph(inputs, [y], b.ops))


def _together(graphs: list[Graph]) -> bytes:
    """Writes several subgraphs into one file."""
    models: list[Any] = [schema.ModelT.InitFromPackedBuf(writer.write(g), 0) for g in graphs]
    whole = models[0]
    for model in models[1:]:
        buffers, codes = len(whole.buffers), len(whole.operatorCodes)
        (subgraph,) = model.subgraphs
        for tensor in subgraph.tensors:
            tensor.buffer += buffers
        for op in subgraph.operators:
            op.opcodeIndex += codes
        whole.subgraphs.append(subgraph)
        whole.buffers += model.buffers
        whole.operatorCodes += model.operatorCodes
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(whole.Pack(builder), graph_lib.FILE_IDENTIFIER)
    return bytes(builder.Output())
