"""The int8 model as the kernels compute it: recognition, parameters, NumPy reference."""
