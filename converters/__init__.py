"""From a trained EmbBERT to a full-int8 `.tflite`, its evaluation on TFLM, and firmware.

```python
import converters

model = converters.convert("build/run", calibration="train.csv", recipe="qat")
model.save("build/model")
print(model.evaluate("test.csv"))
print(model.classify("turn on the kitchen light"))
converters.write_firmware(model, "build/firmware")
```

Importing this package loads neither TensorFlow nor TFLM; the first use of a name that needs them
does.
"""

import importlib
from typing import Any

_HOME = {
    "Answer": "converters.evaluation.model",
    "CalibrationWarning": "calibration.recipes",
    "ConvertOptions": "converters.portable.options",
    "Model": "converters.evaluation.model",
    "PageOptions": "converters.page.options",
    "Export": "converters.exports.exporter",
    "ExportOptions": "converters.exports.options",
    "convert": "converters.portable.convert",
    "convert_keras": "converters.portable.convert",
    "export_firmware": "converters.exports.exporter",
    "load_model": "converters.evaluation.model",
    "write_firmware": "converters.firmware.from_model_folder",
    "write_page": "converters.page.page",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
