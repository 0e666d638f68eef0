"""The int8 EmbBERT of a portable `.tflite`, as NumPy arrays.

The `.tflite` is the one source of weights and scales: `extract` reads them back from its graph, and
everything made for the device (NumPy reference, model image, fused custom operators) starts here.
"""

import dataclasses
import itertools

import numpy as np

from converters.kernels import int8_model
from converters.tflite import graph as graph_lib
from converters.tflite import reader as reader_lib


class NotEmbBertError(ValueError):
    """The graph is not the portable EmbBERT graph; the message says where recognition stopped."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A tensor of the graph that holds rows of a named activation.

    Attributes:
      tensor: The tensor; its last two axes are (rows, columns), or the other way round.
      row: First row that it holds.
      transposed: Whether its last axis is the rows.
      factor: The tensor holds this many times the activation.
    """

    tensor: graph_lib.Tensor
    row: int
    transposed: bool = False
    factor: float = 1.0


class _Reader:
    """Walks the graph from its input to its output; every operator must have a part to play."""

    def __init__(self, graph: graph_lib.Graph):
        self.graph = graph
        self.made_by = {id(t): op for op in graph.ops for t in op.outputs}
        self.users: dict[int, list[graph_lib.Op]] = {}
        for op in graph.ops:
            for tensor in {id(t): t for t in op.inputs if t is not None}.values():
                self.users.setdefault(id(tensor), []).append(op)
        self.index = {id(op): i for i, op in enumerate(graph.ops)}
        self.known: set[int] = set()
        self.parts: dict[str, list[Part]] = {}

    def found(self, name: str, tensor: graph_lib.Tensor, row=0, transposed=False, factor=1.0):
        """Notes where a named activation lies."""
        self.parts.setdefault(name, []).append(Part(tensor, row, transposed, factor))

    def fail(self, what: str, op: graph_lib.Op | None = None):
        where = "" if op is None else f" at operator {self.index[id(op)]} ({op.kind})"
        raise NotEmbBertError(f"not the portable EmbBERT graph: {what}{where}")

    def take(self, op: graph_lib.Op) -> graph_lib.Tensor:
        self.known.add(id(op))
        return op.outputs[0]

    def next(self, tensor, kind: str, what: str, test=lambda op: True) -> graph_lib.Op:
        """The one user of `tensor` of a kind that passes `test`."""
        found = [op for op in self.users.get(id(tensor), []) if op.kind == kind and test(op)]
        if len(found) != 1:
            self.fail(f"{what}: {len(found)} {kind} where one is expected after '{tensor.name}'")
        self.take(found[0])
        return found[0]

    def maker(self, tensor, kind: str, what: str) -> graph_lib.Op:
        op = self.made_by.get(id(tensor))
        if op is None or op.kind != kind:
            self.fail(f"{what}: {kind} is expected to make '{tensor.name}'", op)
        self.take(op)
        return op

    def constant(self, op: graph_lib.Op, index: int, what: str) -> graph_lib.Tensor:
        tensor = op.inputs[index] if index < len(op.inputs) else None
        if tensor is None or tensor.data is None:
            self.fail(f"{what} is not a constant", op)
        return tensor

    def dense(self, op: graph_lib.Op, what: str):
        """Weights, weight scale and bias (or None) of a FULLY_CONNECTED."""
        weight = self.constant(op, 1, f"{what}: weights")
        if weight.dtype != np.int8 or np.any(np.asarray(weight.zero_point)):
            self.fail(f"{what}: weights are not symmetric int8", op)
        bias = None
        if len(op.inputs) > 2 and op.inputs[2] is not None:
            # 64 bits beside int16; the values are those of 32.
            bias = self.constant(op, 2, f"{what}: bias").data.astype(np.int32)
        return weight.data, weight.scale, bias

    def used_by(self, tensor, kind: str) -> bool:
        return any(op.kind == kind for op in self.users.get(id(tensor), []))

    def requantized(self, tensor, what: str):
        """`tensor`, or what one QUANTIZE makes of it."""
        if self.used_by(tensor, "QUANTIZE"):
            return self.take(self.next(tensor, "QUANTIZE", what))
        return tensor

    def origin(self, tensor, what: str):
        """`tensor`, or what one QUANTIZE made it of."""
        op = self.made_by.get(id(tensor))
        if op is not None and op.kind == "QUANTIZE":
            self.take(op)
            return op.inputs[0]
        return tensor

    def model(self) -> int8_model.Int8Model:
        graph = self.graph
        if not 1 <= len(graph.inputs) <= 2 or len(graph.outputs) != 1:
            self.fail(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
        ids = graph.inputs[0]
        real = self.take(self.next(ids, "MINIMUM", "padding mask"))
        if self.used_by(real, "MUL"):  # limits of int16 scores rather than a bias of int8 ones
            limits = self.take(self.next(real, "MUL", "padding mask"))
            padding = self.take(self.next(limits, "QUANTIZE", "padding mask"))
        else:
            padding = self.take(self.next(real, "SUB", "padding mask"))
        lookup = self.next(ids, "GATHER", "token embedding")
        token = self.constant(lookup, 0, "token table")
        join = self.next(lookup.outputs[0], "CONCATENATION", "embedder")
        position = self.constant(join, 1, "position table")
        embed = self.next(join.outputs[0], "FULLY_CONNECTED", "embedder")
        weight, weight_scale, bias = self.dense(embed, "embedder")
        v, r = token.shape
        length, d = embed.outputs[0].shape
        biases = np.stack([bias, bias])
        pair = len(graph.inputs) == 2
        if pair:
            segment = self.next(graph.inputs[1], "GATHER", "segment embedding")
            table = self.constant(segment, 0, "segment table").data.astype(np.int32)
            columns = weight[:, 2 * r :].astype(np.int32)
            biases = np.stack([bias + columns @ table[1], bias + columns @ table[2]])
        if token.shape[1] + position.shape[-1] > weight.shape[1]:
            self.fail("embedder's weights are too narrow", embed)

        x, blocks = embed.outputs[0], []
        self.found("x0", x)
        while True:
            block, x, last = self.block(len(blocks), x, padding)
            blocks.append(block)
            if last:
                break
        head = self.next(x, "FULLY_CONNECTED", "classifier head")
        head_w, head_scale, head_bias = self.dense(head, "classifier head")
        logits = self.take(head)
        self.found("logits", logits)
        if logits is not graph.outputs[0]:
            self.fail("the head is not the graph's output", head)
        for op in graph.ops:
            if id(op) not in self.known:
                self.fail("an operator that EmbBERT does not have", op)
        return int8_model.Int8Model(
            vocab_size=v,
            r=r,
            max_length=length,
            d=d,
            labels=head_w.shape[0],
            pair=pair,
            token=token.data,
            position=position.data.reshape(length, r),
            embed_in_scale=float(join.outputs[0].scale),
            embed_w=np.ascontiguousarray(weight[:, : 2 * r]),
            embed_w_scale=weight_scale,
            embed_bias=biases.astype(np.int32),
            blocks=tuple(blocks),
            head_w=head_w,
            head_w_scale=head_scale,
            head_bias=head_bias,
            logits_scale=float(logits.scale),
            logits_zero=int(logits.zero_point),
        )

    def block(self, number: int, x, padding):
        name = f"layer {number}"
        xhat = self.normalisation(number, x)

        # The convolution's filter tells the kernel; attention's last layer has one query row.
        products = [
            op
            for op in self.users[id(xhat)]
            if op.kind == "FULLY_CONNECTED" and op.inputs[1] is xhat
        ]
        scores = [op for op in products if op.inputs[0].data is None]
        values = [op for op in products if op.inputs[0].data is not None]
        if not scores or len(values) > 1:
            self.fail(f"{name}: {len(scores)} score products, {len(values)} value projections")
        wide = scores[0].inputs[0].dtype == np.int16
        last = not values and (not wide or (len(scores) == 1 and self.one_row(scores[0])))
        shared: dict[str, graph_lib.Op] = {}

        def same(role: str, op: graph_lib.Op) -> graph_lib.Op:
            """All chunks must use the constants and scales of the first one."""
            first = shared.setdefault(role, op)
            for one, other in zip(first.inputs[1:3], op.inputs[1:3], strict=True):
                if one is not other and not (
                    one is not None
                    and other is not None
                    and one.data is not None
                    and np.array_equal(one.data, other.data)
                    and np.array_equal(one.scale, other.scale)
                ):
                    self.fail(f"{name}: {role} differs between chunks", op)
            if (first.outputs[0].scale, first.outputs[0].zero_point) != (
                op.outputs[0].scale,
                op.outputs[0].zero_point,
            ):
                self.fail(f"{name}: {role} is scaled differently between chunks", op)
            return op

        if not values:
            transposed = self.next(xhat, "TRANSPOSE", f"{name}: keys by column")
            filter_of_context = transposed.outputs[0]
        else:
            filter_of_context = self.take(values[0])
            self.found(f"v{number}", filter_of_context, transposed=True)
        rows_done = 0
        attended: dict[int, tuple[int, int]] = {}
        for op in sorted(scores, key=lambda op: self.index[id(op)]):
            made = self.take(op)
            if wide:
                mask = self.next(made, "MINIMUM", f"{name}: padding mask")
                limits, made = mask.inputs[1], self.take(mask)
            else:
                mask = self.maker(op.inputs[2], "MUL", f"{name}: padding mask")
                limits = mask.inputs[0]
            if limits is not padding:
                self.fail(f"{name}: the mask is not made from the padding", mask)
            query = self.maker(
                self.origin(op.inputs[0], f"{name}: query"), "FULLY_CONNECTED", f"{name}: query"
            )
            self.dense(same("query", query), f"{name}: query")
            start, rows = self.rows_of(query.inputs[0], xhat, f"{name}: query rows")
            if start != rows_done:
                self.fail(f"{name}: query rows {start} follow row {rows_done}", query)
            rows_done += rows
            weights = self.next(made, "SOFTMAX", f"{name}: softmax")
            context = self.next(
                self.take(weights),
                "FULLY_CONNECTED",
                f"{name}: weighted sum",
            )
            if context.inputs[1] is not filter_of_context:
                self.fail(f"{name}: weighted sum of another tensor", context)
            out = self.take(context)
            self.found(f"q{number}", query.outputs[0], start)
            self.found(f"scores{number}", op.outputs[0], start)
            if not values:
                self.found(f"c{number}", out, start)
                project = self.next(out, "FULLY_CONNECTED", f"{name}: output projection")
                shared["values"] = same("output projection", project)
                out = self.take(project)
            attended[id(out)] = (start, rows)
            self.found(f"a{number}", out, start)
        if rows_done != (1 if last else x.shape[0]):
            self.fail(f"{name}: {rows_done} query rows of {x.shape[0]}")
        if not values:
            wv, wv_scale, _ = self.dense(shared["values"], f"{name}: output projection")
        else:
            constant = values[0].inputs[0]
            wv, wv_scale = constant.data, constant.scale

        finished: dict[int, tuple[int, int]] = {}
        rows_done = 0
        for op in self.graph.ops:
            if op.kind != "DEPTHWISE_CONV_2D" or id(op) in self.known:
                continue
            taps = op.inputs[1].shape[2]
            window = op.inputs[0]
            missing = 0
            if self.made_by.get(id(window)) is not None and self.made_by[id(window)].kind == "PAD":
                pad = self.maker(window, "PAD", f"{name}: zeros before the text")
                missing = int(self.constant(pad, 1, "padding").data[2][0])
                window = pad.inputs[0]
            start, rows = self.rows_of(window, xhat, f"{name}: convolution rows", probe=True)
            if start is None:
                continue
            self.constant(op, 1, f"{name}: convolution weights")
            self.constant(op, 2, f"{name}: convolution bias")
            y = self.take(same("convolution", op))
            gated = self.requantized(y, f"{name}: sigmoid")
            gate = self.next(gated, "LOGISTIC", f"{name}: sigmoid")
            silu = self.next(self.take(gate), "MUL", f"{name}: SiLU")
            if not any(tensor is gated for tensor in silu.inputs):
                self.fail(f"{name}: SiLU of another tensor", silu)
            if gated is not y:
                silu = self.next(self.take(silu), "QUANTIZE", f"{name}: SiLU")
            contract = self.next(
                self.requantized(self.take(silu), f"{name}: SiLU"),
                "FULLY_CONNECTED",
                f"{name}: contraction",
            )
            self.dense(same("contraction", contract), f"{name}: contraction")
            if "silu" in shared and shared["silu"].outputs[0].scale != silu.outputs[0].scale:
                self.fail(f"{name}: SiLU is scaled differently between chunks", silu)
            shared.setdefault("silu", silu)
            first = start + taps - 1 - missing
            count = rows + missing - (taps - 1)
            z = self.requantized(self.take(contract), f"{name}: contraction")
            add = self.next(z, "ADD", f"{name}: sum of the branches")
            other = add.inputs[0] if add.inputs[1] is z else add.inputs[1]
            other = self.origin(other, f"{name}: attention rows")
            if self.take(add).dtype == np.int16:
                add = self.next(add.outputs[0], "QUANTIZE", f"{name}: output")
            if self.span(other, attended, f"{name}: attention rows") != (first, count):
                self.fail(f"{name}: the branches' rows differ", add)
            if first != rows_done:
                self.fail(f"{name}: convolution rows {first} follow row {rows_done}", op)
            rows_done += count
            for part, made in (("y", op), ("s", silu), ("z", contract), ("x", add)):
                self.found(f"{part}{number + (part == 'x')}", made.outputs[0], first)
            finished[id(self.take(add))] = (first, count)
            shared.setdefault("sum", add)
        if not finished or rows_done != (1 if last else x.shape[0]):
            self.fail(f"{name}: {rows_done} convolution rows of {x.shape[0]}")
        total = (0, rows_done)
        out = next((t for t in self.graph.ordered_tensors() if finished.get(id(t)) == total), None)
        if out is None:
            final = self.next(shared["sum"].outputs[0], "CONCATENATION", f"{name}: output rows")
            out = final.outputs[0]
            if self.span(out, finished, f"{name}: output rows") != total:
                self.fail(f"{name}: output rows are out of order", final)

        query, conv, silu, contract = (
            shared[role] for role in ("query", "convolution", "silu", "contraction")
        )
        wq, wq_scale, bq = self.dense(query, f"{name}: query")
        wz, wz_scale, bz = self.dense(contract, f"{name}: contraction")
        kernel = conv.inputs[1]
        taps, channels = kernel.shape[2], kernel.shape[3]
        y = conv.outputs[0]
        block = int8_model.Int8Block(
            d=x.shape[1],
            e=channels // x.shape[1],
            k=taps,
            x_scale=float(x.scale),
            x_zero=int(x.zero_point),
            xhat_scale=float(xhat.scale),
            wq=wq,
            wq_scale=wq_scale,
            bq=bq,
            q_scale=float(query.outputs[0].scale),
            q_zero=int(query.outputs[0].zero_point),
            wv=wv,
            wv_scale=wv_scale,
            conv=kernel.data.reshape(taps, channels),
            conv_scale=np.broadcast_to(np.asarray(kernel.scale, np.float32), (channels,)),
            conv_bias=conv.inputs[2].data,
            y_scale=float(y.scale),
            y_zero=int(y.zero_point),
            s_scale=float(silu.outputs[0].scale),
            s_zero=int(silu.outputs[0].zero_point),
            wz=wz,
            wz_scale=wz_scale,
            bz=bz,
            out_scale=float(out.scale),
            out_zero=int(out.zero_point),
        )
        return block, out, last

    def normalisation(self, number: int, x):
        """RMSNorm of `x`: its result."""
        name = f"layer {number}"

        def product(op):
            return op.inputs[0] is op.inputs[1]

        source = self.requantized(x, f"{name}: normalisation") if x.dtype == np.int8 else x
        square = self.next(source, "MUL", f"{name}: x squared", product)
        mean = self.next(square.outputs[0], "FULLY_CONNECTED", f"{name}: mean of squares")
        self.constant(mean, 1, f"{name}: mean of squares")
        coarse = self.requantized(mean.outputs[0], f"{name}: mean of squares")
        inverse = self.take(self.next(coarse, "RSQRT", f"{name}: reciprocal root"))
        if source is not x:
            what = f"{name}: Newton step"
            guess = self.requantized(inverse, what)
            root = self.next(mean.outputs[0], "MUL", what)
            near = self.next(root.outputs[0], "MUL", what)
            if root.inputs[1] is not guess or near.inputs[1] is not guess:
                self.fail(f"{what} from another root", near)
            rest = self.next(near.outputs[0], "SUB", what)
            self.constant(rest, 0, what)
            step = self.next(rest.outputs[0], "MUL", what)
            if step.inputs[0] is not guess:
                self.fail(f"{what} of another root", step)
            inverse = step.outputs[0]
        normal = self.next(inverse, "MUL", f"{name}: normalisation")
        if normal.inputs[0] is not source:
            self.fail(f"{name}: normalisation of another tensor", normal)
        xhat = self.take(normal)
        if source is not x:
            xhat = self.take(self.next(xhat, "QUANTIZE", f"{name}: normalisation"))
        if xhat.zero_point != 0 or xhat.dtype != np.int8:
            self.fail(f"{name}: normalised input is not symmetric int8", normal)
        self.found(f"sq{number}", square.outputs[0])
        self.found(f"ms{number}", mean.outputs[0], factor=1.0 if source is x else 4.0)
        self.found(f"r{number}", inverse)
        self.found(f"xhat{number}", xhat)
        return xhat

    def one_row(self, scores: graph_lib.Op) -> bool:
        """Whether the query is row 0 alone: the builder gathers it as (1, 1, 1, D)."""
        query = self.made_by.get(id(self.origin(scores.inputs[0], "query")))
        return query is not None and len(query.inputs[0].shape) == 4

    def rows_of(self, tensor, source, what: str, probe: bool = False):
        """(first row, rows) of `source` that `tensor` holds; (None, None) for another source."""
        if tensor is source:
            return 0, source.shape[0]
        op = self.made_by.get(id(tensor))
        if op is None or op.kind not in ("SLICE", "GATHER") or op.inputs[0] is not source:
            if probe:
                return None, None
            self.fail(f"{what}: '{tensor.name}' is no run of '{source.name}'", op)
        self.take(op)
        if op.kind == "SLICE":
            begin, size = self.constant(op, 1, what).data, self.constant(op, 2, what).data
            if begin[1] or size[1] != source.shape[1]:
                self.fail(f"{what}: a slice of columns", op)
            return int(begin[0]), int(size[0])
        rows = self.constant(op, 1, what).data.reshape(-1)
        if np.any(np.diff(rows) != 1):
            self.fail(f"{what}: rows out of order", op)
        return int(rows[0]), len(rows)

    def span(self, tensor, known: dict[int, tuple[int, int]], what: str) -> tuple[int, int]:
        """(first row, rows) of a tensor in `known` or of a CONCATENATION of such."""
        if id(tensor) in known:
            return known[id(tensor)]
        op = self.maker(tensor, "CONCATENATION", what)
        parts = [self.span(part, known, what) for part in op.inputs]
        for (start, rows), (following, _) in itertools.pairwise(parts):
            if start + rows != following:
                self.fail(f"{what}: rows out of order", op)
        return parts[0][0], sum(rows for _, rows in parts)


def extract(data: bytes) -> int8_model.Int8Model:
    """Reads the model back from a portable `.tflite`.

    Args:
      data: The file that `converters.convert_tflite` wrote.

    Raises:
      NotEmbBertError: The graph is another one; the message says where recognition stopped.
      flatbuffer.FlatbufferError: `data` is no readable `.tflite`.
    """
    return _Reader(reader_lib.read(data)).model()


def activations(graph: graph_lib.Graph) -> dict[str, list[Part]]:
    """Finds the named activations (`embbert_tf.quantization.folding.activation_names`) in a portable graph.

    Args:
      graph: From `flatbuffer.read`.

    Returns:
      The tensors that hold each activation, in the order of their rows; together they hold all
      rows that the graph computes.

    Raises:
      NotEmbBertError: The graph is another one.
    """
    reader = _Reader(graph)
    reader.model()
    return {name: sorted(parts, key=lambda p: p.row) for name, parts in reader.parts.items()}
