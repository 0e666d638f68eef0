"""Runs pytest on the file that is its argument; the `main` of every Bazel py_test."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
