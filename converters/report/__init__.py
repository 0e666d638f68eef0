"""What a `.tflite` needs on TFLM, and where its quantization error arises."""
