"""Training a classifier: options, the loop, optimizer, distillation, metrics."""
