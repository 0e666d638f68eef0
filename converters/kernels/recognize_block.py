"""One EmbBERT layer in a portable graph: which operator is which, and what they hold.

The builder cuts a layer into chunks of rows (`converters/portable/schedule.py`), so each role may
be played by several operators. They must agree in constants and scales, and their rows must follow
each other without a gap.
"""

import numpy as np

from converters.kernels import int8_model
from converters.kernels.graph_walk import Walk
from converters.tflite.graph import Op, Tensor

Rows = dict[int, tuple[int, int]]  # `id` of a tensor -> (first row, rows) that it holds


class BlockReader:
    """Reads one layer; `read` does it all.

    Args:
        walk: The walk through the graph so far.
        number: Of the layer.
        x: Its input (n, D).
        padding: The mask of padding that its scores must use.
    """

    def __init__(self, walk: Walk, number: int, x: Tensor, padding: Tensor) -> None:
        self._walk, self._number, self._x, self._padding = walk, number, x, padding
        self._name = f"layer {number}"
        self._shared: dict[str, Op] = {}  # role -> the first chunk's operator

    def read(self) -> tuple[int8_model.Int8Block, Tensor, bool]:
        """Returns the layer, its output, and whether it is the last one.

        Raises:
            NotEmbBertError: It is no such layer.
        """
        walk, name = self._walk, self._name
        xhat = self._xhat = _normalisation(walk, self._number, self._x)
        # The convolution's filter tells the kernel; attention's last layer has one query row.
        products = [
            op
            for op in walk.users[id(xhat)]
            if op.kind == "FULLY_CONNECTED" and op.inputs[1] is xhat
        ]
        scores = [op for op in products if walk.input(op, 0).data is None]
        values = [op for op in products if walk.input(op, 0).data is not None]
        if not scores or len(values) > 1:
            walk.fail(f"{name}: {len(scores)} score products, {len(values)} value projections")
        self._wide = walk.input(scores[0], 0).dtype == np.int16
        last = not values and (
            not self._wide or (len(scores) == 1 and _is_one_row(walk, scores[0]))
        )
        rows = 1 if last else self._x.shape[0]
        attended = self._attention(scores, values, rows)
        finished = self._branch(attended, rows)
        out = self._output(finished, rows)
        return self._block(values, out), out, last

    def _same(self, role: str, op: Op) -> Op:
        """All chunks must use the constants and scales of the first one."""
        first = self._shared.setdefault(role, op)
        for one, other in zip(first.inputs[1:3], op.inputs[1:3], strict=True):
            if one is not other and not (one and other and _are_equal(one, other)):
                self._walk.fail(f"{self._name}: {role} differs between chunks", op)
        if (first.outputs[0].scale, first.outputs[0].zero_point) != (
            op.outputs[0].scale,
            op.outputs[0].zero_point,
        ):
            self._walk.fail(f"{self._name}: {role} is scaled differently between chunks", op)
        return op

    def _attention(self, scores: list[Op], values: list[Op], rows: int) -> Rows:
        """Follows every chunk of query rows from its scores; returns the attended rows."""
        walk, name, number = self._walk, self._name, self._number
        if values:
            context_filter = walk.take(values[0])
            walk.found(f"v{number}", context_filter, transposed=True)
        else:
            context_filter = walk.next(self._xhat, "TRANSPOSE", f"{name}: keys by column").outputs[
                0
            ]
        done = 0
        attended: Rows = {}
        for op in sorted(scores, key=lambda op: walk.index[id(op)]):
            start, count, out = self._attend(op, done, context_filter, project=not values)
            done += count
            attended[id(out)] = (start, count)
            walk.found(f"a{number}", out, start)
        if done != rows:
            walk.fail(f"{name}: {done} query rows of {self._x.shape[0]}")
        return attended

    def _attend(
        self, op: Op, done: int, context_filter: Tensor, project: bool
    ) -> tuple[int, int, Tensor]:
        """Follows one chunk: query, scores, mask, softmax, weighted sum.

        Args:
            op: The product that makes the scores.
            done: Rows before this chunk.
            context_filter: What the weights are multiplied with.
            project: Whether the output projection comes after the weighted sum.

        Returns:
            First row, rows, and the tensor that holds them.
        """
        walk, name, number = self._walk, self._name, self._number
        made = walk.take(op)
        if self._wide:
            mask = walk.next(made, "MINIMUM", f"{name}: padding mask")
            limits, made = walk.input(mask, 1), walk.take(mask)
        elif walk.used_by(made, "MINIMUM"):  # for an NPU
            mask = walk.next(made, "MINIMUM", f"{name}: padding mask")
            scaled = walk.maker(walk.input(mask, 1), "MUL", f"{name}: padding mask")
            limits, made = walk.input(scaled, 0), walk.take(mask)
        else:
            mask = walk.maker(walk.input(op, 2), "MUL", f"{name}: padding mask")
            limits = walk.input(mask, 0)
        if limits is not self._padding:
            walk.fail(f"{name}: the mask is not made from the padding", mask)
        query = walk.maker(walk.origin(walk.input(op, 0)), "FULLY_CONNECTED", f"{name}: query")
        walk.dense(self._same("query", query), f"{name}: query")
        start, rows = walk.rows_of(walk.input(query, 0), self._xhat, f"{name}: query rows")
        if start != done:
            walk.fail(f"{name}: query rows {start} follow row {done}", query)
        weights = walk.next(made, "SOFTMAX", f"{name}: softmax")
        context = walk.next(walk.take(weights), "FULLY_CONNECTED", f"{name}: weighted sum")
        if context.inputs[1] is not context_filter:
            walk.fail(f"{name}: weighted sum of another tensor", context)
        out = walk.take(context)
        walk.found(f"q{number}", query.outputs[0], start)
        walk.found(f"scores{number}", op.outputs[0], start)
        if project:
            walk.found(f"c{number}", out, start)
            projection = walk.next(out, "FULLY_CONNECTED", f"{name}: output projection")
            self._shared["values"] = self._same("output projection", projection)
            out = walk.take(projection)
        return start, rows, out

    def _branch(self, attended: Rows, rows: int) -> Rows:
        """Follows every chunk of the convolution branch to the sum; returns the finished rows."""
        walk, name = self._walk, self._name
        finished: Rows = {}
        done = 0
        for op in walk.graph.ops:
            if op.kind != "DEPTHWISE_CONV_2D" or id(op) in walk.known:
                continue
            taps = walk.shape(walk.input(op, 1), 4, f"{name}: convolution")[2]
            window = walk.input(op, 0)
            missing = 0
            maker = walk.made_by.get(id(window))
            if maker is not None and maker.kind == "PAD":
                pad = walk.maker(window, "PAD", f"{name}: zeros before the text")
                missing = int(walk.array(pad, 1, "padding")[2][0])
                window = walk.input(pad, 0)
            found = walk.rows_if_of(window, self._xhat, f"{name}: convolution rows")
            if found is None:
                continue
            first = found[0] + taps - 1 - missing
            count = found[1] + missing - (taps - 1)
            add = self._convolve(op, (first, count), done, attended)
            done += count
            finished[id(walk.take(add))] = (first, count)
            self._shared.setdefault("sum", add)
        if not finished or done != rows:
            walk.fail(f"{name}: {done} convolution rows of {self._x.shape[0]}")
        return finished

    def _convolve(self, op: Op, span: tuple[int, int], done: int, attended: Rows) -> Op:
        """Follows one chunk of the branch; returns the operator that makes its output rows."""
        walk, name, number = self._walk, self._name, self._number
        walk.constant(op, 1, f"{name}: convolution weights")
        walk.constant(op, 2, f"{name}: convolution bias")
        y = walk.take(self._same("convolution", op))
        silu = self._silu(y)
        contract = walk.next(
            walk.requantized(walk.take(silu), f"{name}: SiLU"),
            "FULLY_CONNECTED",
            f"{name}: contraction",
        )
        walk.dense(self._same("contraction", contract), f"{name}: contraction")
        first_silu = self._shared.setdefault("silu", silu)
        if first_silu.outputs[0].scale != silu.outputs[0].scale:
            walk.fail(f"{name}: SiLU is scaled differently between chunks", silu)
        z = walk.requantized(walk.take(contract), f"{name}: contraction")
        add = walk.next(z, "ADD", f"{name}: sum of the branches")
        other = walk.origin(walk.input(add, 0 if add.inputs[1] is z else 1))
        if walk.take(add).dtype == np.int16:
            add = walk.next(add.outputs[0], "QUANTIZE", f"{name}: output")
        if walk.span(other, attended, f"{name}: attention rows") != span:
            walk.fail(f"{name}: the branches' rows differ", add)
        first = span[0]
        if first != done:
            walk.fail(f"{name}: convolution rows {first} follow row {done}", op)
        for part, made in (("y", op), ("s", silu), ("z", contract)):
            walk.found(f"{part}{number}", made.outputs[0], first)
        walk.found(f"x{number + 1}", add.outputs[0], first)
        return add

    def _silu(self, y: Tensor) -> Op:
        """Returns the operator that makes SiLU of the convolution's output."""
        walk, name = self._walk, self._name
        gated = walk.requantized(y, f"{name}: sigmoid")
        gate = walk.next(gated, "LOGISTIC", f"{name}: sigmoid")
        silu = walk.next(walk.take(gate), "MUL", f"{name}: SiLU")
        if not any(tensor is gated for tensor in silu.inputs):
            walk.fail(f"{name}: SiLU of another tensor", silu)
        if gated is not y:
            silu = walk.next(walk.take(silu), "QUANTIZE", f"{name}: SiLU")
        return silu

    def _output(self, finished: Rows, rows: int) -> Tensor:
        """Returns the tensor that holds all output rows."""
        walk, name = self._walk, self._name
        total = (0, rows)
        for tensor in walk.graph.ordered_tensors():
            if finished.get(id(tensor)) == total:
                return tensor
        what = f"{name}: output rows"
        final = walk.next(self._shared["sum"].outputs[0], "CONCATENATION", what)
        if walk.span(final.outputs[0], finished, what) != total:
            walk.fail(f"{what} are out of order", final)
        return final.outputs[0]

    def _block(self, values: list[Op], out: Tensor) -> int8_model.Int8Block:
        """Gathers what the recognised operators hold."""
        walk, name, x = self._walk, self._name, self._x
        query, conv, silu, contract = (
            self._shared[role] for role in ("query", "convolution", "silu", "contraction")
        )
        wq, wq_scale, bq = walk.dense_with_bias(query, f"{name}: query")
        wv, wv_scale = self._projection(values)
        wz, wz_scale, bz = walk.dense_with_bias(contract, f"{name}: contraction")
        kernel, y = walk.constant(conv, 1, f"{name}: convolution weights"), conv.outputs[0]
        taps, channels = kernel.shape[2], kernel.shape[3]
        return int8_model.Int8Block(
            d=x.shape[1],
            e=channels // x.shape[1],
            k=taps,
            x_scale=walk.scale(x),
            x_zero=int(x.zero_point),
            xhat_scale=walk.scale(self._xhat),
            wq=wq,
            wq_scale=wq_scale,
            bq=bq,
            q_scale=walk.scale(query.outputs[0]),
            q_zero=int(query.outputs[0].zero_point),
            wv=wv,
            wv_scale=wv_scale,
            conv=walk.array(conv, 1, f"{name}: convolution weights").reshape(taps, channels),
            conv_scale=np.broadcast_to(np.asarray(kernel.scale, np.float32), (channels,)),
            conv_bias=walk.array(conv, 2, f"{name}: convolution bias"),
            y_scale=walk.scale(y),
            y_zero=int(y.zero_point),
            s_scale=walk.scale(silu.outputs[0]),
            s_zero=int(silu.outputs[0].zero_point),
            wz=wz,
            wz_scale=wz_scale,
            bz=bz,
            out_scale=walk.scale(out),
            out_zero=int(out.zero_point),
        )

    def _projection(self, values: list[Op]) -> tuple[np.ndarray, float | np.ndarray]:
        """Returns the output projection (D, D) and its scale."""
        what = f"{self._name}: output projection"
        if not values:
            return self._walk.dense(self._shared["values"], what)[:2]
        scale = self._walk.input(values[0], 0).scale
        if scale is None:
            self._walk.fail(f"{what} has no scale", values[0])
        return self._walk.array(values[0], 0, what), scale


def _are_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same constant at the same scale."""
    return (
        one.data is not None
        and other.data is not None
        and np.array_equal(one.data, other.data)
        and np.array_equal(np.asarray(one.scale), np.asarray(other.scale))
    )


def _normalisation(walk: Walk, number: int, x: Tensor) -> Tensor:
    """Follows RMSNorm of `x`; returns its result."""
    name = f"layer {number}"

    def is_square(op: Op) -> bool:
        return op.inputs[0] is op.inputs[1]

    source = walk.requantized(x, f"{name}: normalisation") if x.dtype == np.int8 else x
    square = walk.next(source, "MUL", f"{name}: x squared", is_square)
    mean = walk.next(square.outputs[0], "FULLY_CONNECTED", f"{name}: mean of squares")
    walk.constant(mean, 1, f"{name}: mean of squares")
    coarse = walk.requantized(mean.outputs[0], f"{name}: mean of squares")
    inverse = walk.take(walk.next(coarse, "RSQRT", f"{name}: reciprocal root"))
    if source is not x:
        inverse = _newton_step(walk, f"{name}: Newton step", mean.outputs[0], inverse)
    normal = walk.next(inverse, "MUL", f"{name}: normalisation")
    if normal.inputs[0] is not source:
        walk.fail(f"{name}: normalisation of another tensor", normal)
    xhat = walk.take(normal)
    if source is not x:
        xhat = walk.take(walk.next(xhat, "QUANTIZE", f"{name}: normalisation"))
    if xhat.zero_point != 0 or xhat.dtype != np.int8:
        walk.fail(f"{name}: normalised input is not symmetric int8", normal)
    walk.found(f"sq{number}", square.outputs[0])
    walk.found(f"ms{number}", mean.outputs[0], factor=1.0 if source is x else 4.0)
    walk.found(f"r{number}", inverse)
    walk.found(f"xhat{number}", xhat)
    return xhat


def _newton_step(walk: Walk, what: str, mean: Tensor, inverse: Tensor) -> Tensor:
    """Follows the step that sharpens the reciprocal root in int16; returns its result."""
    guess = walk.requantized(inverse, what)
    root = walk.next(mean, "MUL", what)
    near = walk.next(root.outputs[0], "MUL", what)
    if root.inputs[1] is not guess or near.inputs[1] is not guess:
        walk.fail(f"{what} from another root", near)
    rest = walk.next(near.outputs[0], "SUB", what)
    walk.constant(rest, 0, what)
    step = walk.next(rest.outputs[0], "MUL", what)
    if step.inputs[0] is not guess:
        walk.fail(f"{what} of another root", step)
    return step.outputs[0]


def _is_one_row(walk: Walk, scores: Op) -> bool:
    """Whether the query is row 0 alone: the builder gathers it as (1, 1, 1, D)."""
    query = walk.made_by.get(id(walk.origin(walk.input(scores, 0))))
    return query is not None and len(walk.input(query, 0).shape) == 4
