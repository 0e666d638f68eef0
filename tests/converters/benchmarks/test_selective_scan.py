"""The selective scan of TFLM's own operators is the scan, and needs float32 for it."""

import pytest

from converters.benchmarks import builtin_scan, selective_scan
from converters.tflite import reader


@pytest.mark.parametrize("way", selective_scan._WAYS)
@pytest.mark.parametrize("length", [1, 2, 13])
def test_every_way_computes_the_scan(way, length):
    scan = builtin_scan.sample(length, channels=5, states=3)
    tflite = selective_scan._WAYS[way](scan)
    assert selective_scan.error_in_steps(scan, tflite) < 0.6
    types = {
        tensor.type_name
        for graph in reader.read_all(tflite)
        for op in graph.ops
        for tensor in op.outputs
    }
    assert ("FLOAT32" in types) == (way != "EMBBERT_SELECTIVE_SCAN")


def test_what_tflm_refuses():
    assert "exp.cc" in selective_scan.refusal("EXP", "int16")
    assert "elementwise.cc" in selective_scan.refusal("LOG", "int8")
    assert "not supported by gather" in selective_scan.refusal("GATHER", "int16")
    assert (
        selective_scan.refusal("EXP", "float32") == selective_scan.refusal("GATHER", "int8") == ""
    )


def test_a_row_of_the_table():
    scan = builtin_scan.sample(12, channels=4, states=2)
    tokens, way, operators, size, arena, error = selective_scan.row(scan, "WHILE", [])
    assert (tokens, way, operators) == ("12", "WHILE", "34")
    assert int(arena.replace(",", "")) > 3000 < int(size.replace(",", "")) and float(error) < 0.6
