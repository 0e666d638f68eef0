"""EmbBERT-Q in Keras: model, training, quantization-aware training, pre-training.

```python
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

# TensorFlow Model Optimization works on Keras 2 alone, and TensorFlow decides on import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

_HOME = {
    "EmbBertBackbone": "embbert_tf.model.backbone",
    "EmbBertClassifier": "embbert_tf.model.classifier",
    "EmbBertConfig": "embbert_tf.model.config",
    "EmbBertError": "embbert_tf.errors",
    "PRESETS": "embbert_tf.model.config",
    "QatOptions": "embbert_tf.training.options",
    "Run": "embbert_tf.storage.run_folder",
    "TrainOptions": "embbert_tf.training.options",
    "load_run": "embbert_tf.storage.run_folder",
    "quantize": "embbert_tf.quantization.quantized_classifier",
    "train": "embbert_tf.training.trainer",
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
