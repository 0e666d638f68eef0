"""Accuracy of a model in each of its forms, on the host and on a board."""
