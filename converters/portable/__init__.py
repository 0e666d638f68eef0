"""The portable int8 graph of builtin operators, and the conversion of a run to it."""
