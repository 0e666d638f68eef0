"""From a trained EmbBERT run to a full-int8 `.tflite` for TFLM, and from that to firmware."""
