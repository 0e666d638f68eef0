"""The `.tflite` format: graph, reader, writer, checks, quantization, the model folder."""
