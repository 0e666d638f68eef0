"""EmbBERT-Q in Keras: model, training, quantization-aware training, pre-training.

```text
run = embbert_tf.train("train.csv", test="test.csv", output="build/run",
                       options=embbert_tf.TrainOptions(init="zoo/backbone", epochs=5))
run = embbert_tf.train_quantized(run, "train.csv", embbert_tf.QatOptions(epochs=2))
```

`converters` makes a full-int8 `.tflite` and firmware of the run. Importing this package loads no
TensorFlow; the first use of a name that needs it does.
"""

import importlib
import os
import sys
import types

import wrapt

# TensorFlow Model Optimization works on Keras 2 alone, and TensorFlow decides on import.
if "tensorflow" in sys.modules and "TF_USE_LEGACY_KERAS" not in os.environ:
    raise ImportError(
        "embbert_tf needs Keras 2, and TensorFlow has chosen Keras 3 already: import embbert_tf "
        "before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1"
    )
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

_HOME = {
    "EmbBertBackbone": "embbert_tf.model.backbone",
    "EmbBertClassifier": "embbert_tf.model.classifier",
    "EmbBertConfig": "embbert_tf.model.config",
    "EmbBertError": "embbert_tf.errors",
    "EncoderOptions": "embbert_tf.training.options",
    "PRESETS": "embbert_tf.model.config",
    "QatOptions": "embbert_tf.training.options",
    "Run": "embbert_tf.storage.run_folder",
    "TrainOptions": "embbert_tf.training.options",
    "encode": "embbert_tf.data.tokenizer",
    "load_run": "embbert_tf.storage.run_folder",
    "load_tokenizer": "embbert_tf.data.tokenizer",
    "pad": "embbert_tf.data.batches",
    "quantize": "embbert_tf.quantization.quantized_classifier",
    "train": "embbert_tf.training.trainer",
    "train_encoder": "embbert_tf.training.encoder",
    "train_quantized": "embbert_tf.training.quantized_trainer",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_HOME])


class _Package(types.ModuleType):
    """Keeps `embbert_tf.train` the function: the command of that name is no attribute."""

    def __setattr__(self, name, value):
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _register_classes(_module):
    """Registers the classes of `.keras` files, as soon as there is a Keras to register them with.

    So `keras.models.load_model` finds them after `import embbert_tf` alone. A file names the module
    of its classes, too, but one written by an older version names another.
    """
    # If the base class is being imported, all others are on their way.
    if "embbert_tf.quantization.folded_classifier" not in sys.modules:
        importlib.import_module("embbert_tf.quantization.quantized_classifier")


wrapt.register_post_import_hook(_register_classes, "tf_keras")
