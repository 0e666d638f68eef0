"""EmbBERT-Q in tf-keras: model, training, quantization-aware training and folding.

Source of the architecture: "EmbBERT-Q: Breaking Memory Barriers in Embedded NLP" (Bravin, Pavan,
Shalby, Pittorino, Roveri; arXiv 2502.10001).
"""

import os

# Keras 3 cannot be used by tensorflow-model-optimization; this must be set before tensorflow loads.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# TensorFlow's start-up notes (CPU features, missing CUDA) would bury a command's own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
