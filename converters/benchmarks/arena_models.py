"""Models of other origins than this project's, made by TFLiteConverter, to measure arenas with.

Architectures that people run on TFLM, with random weights: what the arena takes depends on shapes
and types alone. `skeleton` therefore empties the weights, so that the file compresses to little.
"""

import pathlib
import re
import struct
import zipfile
from collections.abc import Callable, Collection
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import reader

_SEED = 7
# Constants of these sizes steer operators (shapes, axes, paddings) and stay.
_MOST_KEPT_BYTES = 64
_SMALL_FILE = 20_000


def _convert(model: Any, int8: bool = True, int16: bool = False) -> bytes:
    import tensorflow as tf

    rng = np.random.default_rng(_SEED)
    # Weights that keep the activations at one size, however deep the model.
    for weight in model.weights:
        shape = weight.shape.as_list()
        if len(shape) > 1:
            reach = np.prod(shape[:2] if "depthwise" in weight.name else shape[:-1])
            weight.assign(rng.normal(size=shape) * (2.0 / reach) ** 0.5)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8 or int16:
        shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(3)
        )
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            if int16
            else sets.TFLITE_BUILTINS_INT8
        ]
        kind = tf.int16 if int16 else tf.int8
        converter.inference_input_type = converter.inference_output_type = kind
    return converter.convert()


def _sequential(*layers: Any, **how: bool) -> bytes:
    import tf_keras

    return _convert(tf_keras.Sequential(list(layers)), **how)


def _layers() -> Any:
    import tf_keras

    return tf_keras.layers


def _input(*shape: int) -> Any:
    import tf_keras

    return tf_keras.Input(batch_shape=(1, *shape))


def sine() -> bytes:
    """Three small dense layers, as TFLM's hello_world, in int8."""
    k = _layers()
    return _sequential(
        _input(1), k.Dense(16, activation="relu"), k.Dense(16, activation="relu"), k.Dense(1)
    )


def sine_float() -> bytes:
    """The same in float32."""
    k = _layers()
    return _sequential(
        _input(1),
        k.Dense(16, activation="relu"),
        k.Dense(16, activation="relu"),
        k.Dense(1),
        int8=False,
    )


def micro_speech() -> bytes:
    """A depthwise convolution of one input channel and a dense layer over a spectrogram."""
    k = _layers()
    return _sequential(
        _input(49, 40, 1),
        k.DepthwiseConv2D((10, 8), 2, "same", depth_multiplier=8, activation="relu"),
        k.Flatten(),
        k.Dense(4, activation="softmax"),
    )


def keyword_spotting() -> bytes:
    """Depthwise-separable convolutions over a spectrogram, as DS-CNN of MLPerf Tiny."""
    k = _layers()
    blocks = []
    for _ in range(4):
        blocks += [
            k.DepthwiseConv2D(3, padding="same", activation="relu"),
            k.Conv2D(64, 1, activation="relu"),
        ]
    return _sequential(
        _input(49, 10, 1),
        k.Conv2D(64, (10, 4), (2, 2), "same", activation="relu"),
        *blocks,
        k.AveragePooling2D((25, 5)),
        k.Flatten(),
        k.Dense(12, activation="softmax"),
    )


def person_detect() -> bytes:
    """MobileNet v1 of a quarter of the width over 96x96 grey pixels."""
    k = _layers()
    layers = [k.Conv2D(8, 3, 2, "same", activation="relu6")]
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    plan += [(128, 1)] * 5 + [(256, 2), (256, 1)]
    for channels, stride in plan:
        layers += [
            k.DepthwiseConv2D(3, stride, "same", activation="relu6"),
            k.Conv2D(channels, 1, activation="relu6"),
        ]
    return _sequential(
        _input(96, 96, 1),
        *layers,
        k.AveragePooling2D(3),
        k.Conv2D(2, 1),
        k.Reshape((2,)),
        k.Softmax(),
    )


def residual_images() -> bytes:
    """A residual network over 32x32 colours, as ResNet of MLPerf Tiny."""
    import tf_keras

    k = _layers()
    start = _input(32, 32, 3)
    x = k.Conv2D(16, 3, padding="same", activation="relu")(start)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = k.Conv2D(channels, 3, stride, "same", activation="relu")(x)
        y = k.Conv2D(channels, 3, padding="same")(y)
        if stride > 1:
            x = k.Conv2D(channels, 1, stride, "same")(x)
        x = k.ReLU()(k.Add()([x, y]))
    x = k.Flatten()(k.AveragePooling2D(8)(x))
    return _convert(tf_keras.Model(start, k.Dense(10, activation="softmax")(x)))


def autoencoder() -> bytes:
    """Ten dense layers with a bottleneck, as the anomaly detection of MLPerf Tiny."""
    k = _layers()
    widths = [128, 128, 128, 128, 8, 128, 128, 128, 128]
    return _sequential(_input(640), *[k.Dense(n, activation="relu") for n in widths], k.Dense(640))


def lstm() -> bytes:
    """An LSTM over rows of a picture, in int8."""
    k = _layers()
    return _sequential(_input(28, 28), k.LSTM(20), k.Dense(10, activation="softmax"))


def lstm_float() -> bytes:
    """The same in float32."""
    k = _layers()
    return _sequential(_input(12, 6), k.LSTM(10), k.Dense(3), int8=False)


def lstm_unrolled() -> bytes:
    """An LSTM as its single operators, in float32."""
    k = _layers()
    return _sequential(_input(4, 6), k.LSTM(8, unroll=True), k.Dense(3), int8=False)


def gesture() -> bytes:
    """Convolutions along time over an accelerometer's three axes, with pooling."""
    k = _layers()
    return _sequential(
        _input(128, 3, 1),
        k.Conv2D(8, (4, 3), padding="same", activation="relu"),
        k.MaxPool2D((3, 3)),
        k.Conv2D(16, (4, 1), padding="same", activation="relu"),
        k.MaxPool2D((3, 1), padding="same"),
        k.Flatten(),
        k.Dense(16, activation="relu"),
        k.Dense(4, activation="softmax"),
    )


def time_series() -> bytes:
    """Causal dilated convolutions in one dimension, then a mean."""
    k = _layers()
    return _sequential(
        _input(64, 8),
        *[k.Conv1D(16, 3, dilation_rate=n, padding="causal", activation="relu") for n in (1, 2, 4)],
        k.GlobalAveragePooling1D(),
        k.Dense(5, activation="softmax"),
    )


def upscaling() -> bytes:
    """A U-Net in the small: transposed convolutions, concatenation, logistic output."""
    import tf_keras

    k = _layers()
    start = _input(16, 16, 3)
    a = k.Conv2D(8, 3, padding="same", activation="relu")(start)
    b = k.Conv2D(24, 3, 2, "same", activation="relu")(a)
    c = k.Conv2DTranspose(8, 3, 2, "same")(b)
    x = k.Concatenate()([a, c])
    x = k.UpSampling2D(2, interpolation="bilinear")(x)
    return _convert(tf_keras.Model(start, k.Conv2D(1, 1, activation="sigmoid")(x)))


def convolution_int16() -> bytes:
    """A convolution network with activations of 16 bits."""
    k = _layers()
    return _sequential(
        _input(16, 16, 3),
        k.Conv2D(8, 3, padding="same", activation="relu"),
        k.AveragePooling2D(2),
        k.Conv2D(12, 3, activation="relu"),
        k.Conv2D(5, 6),
        k.Reshape((5,)),
        k.Softmax(),
        int8=False,
        int16=True,
    )


def attention() -> bytes:
    """One head of attention with batched matrix products, normalization and a GELU-like gate."""
    import tf_keras

    k = _layers()
    start = _input(24, 32)
    x = k.LayerNormalization()(start)
    x = k.Add()([start, k.Attention()([k.Dense(32)(x), k.Dense(32)(x), k.Dense(32)(x)])])
    y = k.Dense(64, activation="swish")(x)
    x = k.GlobalAveragePooling1D()(k.Add()([x, k.Dense(32)(y)]))
    return _convert(tf_keras.Model(start, k.Dense(4)(x)))


def _concrete(function: Callable, *shapes: list[int]) -> bytes:
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


def _without_counters(data: bytes) -> bytes:
    """Returns a file whose names do not tell what TensorFlow had made before in this process."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for subgraph in model.subgraphs:
        for named in (subgraph, *subgraph.tensors):
            named.name = re.sub(rb"_[0-9]+", b"", named.name)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def loop() -> bytes:
    """A loop with a body of its own subgraph."""
    import tensorflow as tf

    def function(x: Any) -> Any:
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y) * 2.0), [0, x])[1]

    return _concrete(function, [1, 32])


def branch() -> bytes:
    """Two branches, each a subgraph."""
    import tensorflow as tf

    def function(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: tf.nn.softmax(x))

    return _without_counters(_concrete(function, [1, 8]))


def streaming() -> bytes:
    """Keeps what it has heard in resource variables from one call to the next."""
    import tensorflow as tf

    class Streaming(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ring = tf.Variable(tf.zeros([1, 20]), name="ring")
            rng = np.random.default_rng(_SEED)
            self.weights = tf.constant(rng.normal(size=(20, 3)), tf.float32)

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])
        def __call__(self, x: Any) -> Any:
            heard = tf.concat([self.ring[:, 4:], x], 1)
            self.ring.assign(heard)
            return tf.nn.softmax(heard @ self.weights)

    module = Streaming()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    converter.experimental_enable_resource_variables = True
    return converter.convert()


MODELS: dict[str, Callable[[], bytes]] = {
    f.__name__: f
    for f in (
        sine,
        sine_float,
        micro_speech,
        keyword_spotting,
        person_detect,
        residual_images,
        autoencoder,
        lstm,
        lstm_float,
        lstm_unrolled,
        gesture,
        time_series,
        upscaling,
        convolution_int16,
        attention,
        loop,
        branch,
        streaming,
    )
}


def skeleton(data: bytes) -> bytes:
    """Returns a `.tflite` of the same structure: large constants zero, scales of channels alike."""
    result = bytearray(data)
    model = schema.Model.GetRootAs(data, 0)

    def fill(table: Any, field: int, content: bytes) -> None:
        at, count = table.Vector(table.Offset(field)), table.VectorLen(table.Offset(field))
        result[at : at + count * len(content)] = content * count

    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength() > _MOST_KEPT_BYTES:
            fill(buffer._tab, 4, b"\0")
    for number in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(number)
        for index in range(subgraph.TensorsLength()):
            found = subgraph.Tensors(index).Quantization()
            if found is not None and found.ScaleLength() > 1:
                fill(found._tab, 8, struct.pack("<f", 0.01))
    reader.read(bytes(result))
    return bytes(result)


def keep(paths: list[pathlib.Path], archive: pathlib.Path) -> None:
    """Keeps models in a ZIP: small ones as they are, of large ones the skeleton."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for path in sorted(paths):
            data = path.read_bytes()
            if len(data) > _SMALL_FILE:
                data = skeleton(data)
            # A date of its own would make the archive another one each time.
            target.writestr(zipfile.ZipInfo(path.name), data, zipfile.ZIP_DEFLATED, 9)


def write(folder: pathlib.Path, names: Collection[str] = ()) -> list[pathlib.Path]:
    """Writes the models of these names, all without any, and returns their paths."""
    paths = []
    for name, make in MODELS.items():
        if names and name not in names:
            continue
        paths.append(folder / f"{name}.tflite")
        if not paths[-1].exists():
            paths[-1].write_bytes(make())
    return paths
