"""Ranges of activations for calibration; measured as quantization-aware training measures them."""

from embbert_tf.ranges import SCORE_DEPTH, RangeMeter

__all__ = ["SCORE_DEPTH", "RangeMeter"]
