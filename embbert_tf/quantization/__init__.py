"""Quantization-aware training: folded weights, fake quantizers, ranges."""
