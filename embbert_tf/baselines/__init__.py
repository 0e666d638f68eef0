"""The models that EmbBERT is compared with: BERT and MAMBA scaled to 2 MB, and others of its paper.

Each is described once, as operations on named activations (`ops.TensorOps`). The same description
computes in float, trains with fake quantizers (`quantized_baseline`) and, in
`converters.portable.baseline_graph`, writes a full-int8 graph.
"""
