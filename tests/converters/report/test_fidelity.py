"""Fidelity of each tensor: figures that can be checked by hand, and the noise where it was put."""

import types

import numpy as np
import pytest

from converters.kernels import recognize
from converters.report import fidelity as fidelity_lib
from converters.report import fidelity_picture
from converters.tflite import graph, writer
from embbert_tf.quantization import folding
from tests.support import portable_models as pm


def test_figures_by_hand():
    """Scale 1, zero point 0: -128 .. 127. One value clipped, one off by a half, TFLM off by 2."""
    fidelity = fidelity_lib.Fidelity("y0", 1.0, 0, -128.0, 127.0)
    fidelity.add(np.array([[3.0, 130.0, 0.25]]), np.array([[5.0, 127.0, 0.0]]))
    assert fidelity.signal == pytest.approx(9 + 16900 + 0.0625)
    assert fidelity.noise == pytest.approx(4 + 9 + 0.0625)
    assert fidelity.own_noise == pytest.approx(0 + 9 + 0.0625)
    assert fidelity.clipped == pytest.approx(1 / 3)
    assert (fidelity.low, fidelity.high) == (0.25, 130.0)
    assert fidelity.snr_db == pytest.approx(10 * np.log10(16909.0625 / 13.0625))
    assert fidelity.own_snr_db == pytest.approx(10 * np.log10(16909.0625 / 9.0625))


def test_scores_below_the_range_count_as_its_bottom():
    for name, noise in (("scores1", 0.0), ("y1", 100.0**2)):
        fidelity = fidelity_lib.Fidelity(name, 1.0, 0, -128.0, 127.0)
        fidelity.add(np.array([[-228.0, 5.0]]), np.array([[-128.0, 5.0]]))
        assert fidelity.noise == pytest.approx(noise)
        assert fidelity.clipped == 0.5


def test_exact_agreement_is_the_best_there_is():
    fidelity = fidelity_lib.Fidelity("y0", 1.0, 0, -128.0, 127.0)
    fidelity.add(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]))
    assert fidelity.snr_db == fidelity.own_snr_db == 99.0
    fidelity = fidelity_lib.Fidelity("y0", 1.0, 0, -128.0, 127.0)
    fidelity.add(np.zeros((1, 2)), np.ones((1, 2)))
    assert fidelity.snr_db == -99.0


def test_layers_are_ranked_by_what_they_lose():
    class Fake:
        def __init__(self, snr_db):
            self.snr_db = snr_db

    fidelity = {"x0": Fake(40.0), "x1": Fake(37.0), "x2": Fake(20.0), "x3": Fake(21.0)}
    assert fidelity_lib.rank_layers(fidelity) == [(1, 20.0, 17.0), (0, 37.0, 3.0), (2, 21.0, -1.0)]


CASES = [
    (pm.SMALL, 40, {}),
    (pm.SMALL, 40, {"offline": False, "groups": ((16,), (12, 12))}),
    (pm.WIDE, 47, {"pair": True}),
    (pm.SMALL, 40, {"int16": pm.INT16}),
    (pm.WIDE, 47, {"int16": pm.INT16, "groups": ((16,), (20, 11)), "pair": True}),
]


@pytest.mark.parametrize(
    ("config", "length", "arguments"),
    CASES,
    ids=["offline", "chunks", "pair, E=2", "int16", "int16, chunks"],
)
def test_a_faithful_model_is_called_faithful(config, length, arguments):
    """All activations of all chunks, put together right: else SNR would be about 0 dB."""
    folded = pm.random_folded(config)
    tflite = pm.to_bytes(pm.build(folded, length, **arguments))
    inspector = fidelity_lib.Inspector(tflite, folded)
    pair = arguments.get("pair", False)
    sequences = pm.random_sequences(config, length, pair=pair)
    for ids in sequences:
        inspector.run(ids)
    fidelity = inspector.fidelity
    # (A . xhat) . Wv on int16 has no V.
    absent = "v" if "int16" in arguments else ""
    names = [n for n in folding.activation_names(config) if folding.kind(n) != absent]
    assert list(fidelity) == names
    rows = sum(map(len, sequences))
    d = config.hidden_size
    assert fidelity["x1"].count == rows * d
    assert fidelity["ms0"].count == rows
    assert fidelity["scores0"].count == sum(len(ids) ** 2 for ids in sequences)
    last = config.num_layers - 1
    assert fidelity[f"scores{last}"].count == rows
    assert fidelity[f"y{last}"].count == len(sequences) * d * config.expansion
    for f in fidelity.values():
        assert f.snr_db > 12, (f.name, f.snr_db)
        assert f.own_snr_db > 25, (f.name, f.own_snr_db)
        assert f.own_snr_db > f.snr_db - 1, f.name
        assert f.clipped < 0.01, f.name
        assert f.low >= f.floor - f.scale or f.name.startswith("scores"), f.name


def test_int8_logits_are_those_of_the_shipped_file():
    """Stripping the offline plan, as inspecting needs, changes no value."""
    folded = pm.random_folded(pm.SMALL)
    tflite = pm.to_bytes(pm.build(folded, 40))
    sequences = pm.random_sequences(pm.SMALL, 40, count=4)
    shipped = pm.tflm_logits(tflite, sequences, 40)
    for ids, logits in zip(sequences, shipped, strict=True):
        inspector = fidelity_lib.Inspector(tflite, folded)
        inspector.run(ids)
        model = recognize.extract(tflite)
        real = (logits.astype(float) - model.logits_zero) * model.logits_scale
        noise = np.sum((real - folding.forward(folded, ids)) ** 2)
        assert inspector.fidelity["logits"].noise == pytest.approx(noise, rel=1e-4)


def test_a_tensor_with_a_bad_range_stands_out():
    """s1 gets a tenth of its range: it clips, and its own SNR is the worst of all."""
    folded = pm.random_folded(pm.SMALL)
    meter = pm.ranges.RangeMeter(folded)
    sequences = pm.random_sequences(pm.SMALL, 40)
    for ids in sequences:
        meter.run(ids)
    ranges = meter.ranges("minmax")
    low, high = ranges["s1"]
    ranges["s1"] = (low / 10, high / 10)
    built = pm.graph.PortableGraph(folded, ranges, 40, groups=((40,),))
    inspector = fidelity_lib.Inspector(writer.write(built.graph), folded)
    for ids in sequences:
        inspector.run(ids)
    worst = min(inspector.fidelity.values(), key=lambda f: f.own_snr_db)
    assert worst.name == "s1"
    assert worst.clipped > 0.05
    assert fidelity_lib.rank_layers(inspector.fidelity)[0][0] == 1


def test_csv_and_picture(tmp_path):
    import csv

    folded = pm.random_folded(pm.WIDE)
    inspector = fidelity_lib.Inspector(pm.to_bytes(pm.build(folded, 20)), folded)
    inspector.run([2, 9, 11, 50])
    fidelity_lib.write_csv(inspector.fidelity, tmp_path / "i.csv")
    with open(tmp_path / "i.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["tensor"] for row in rows} == set(folding.activation_names(pm.WIDE))
    snr = [float(row["snr_db"]) for row in rows]
    assert snr == sorted(snr)
    assert [row["rank"] for row in rows] == [str(i + 1) for i in range(len(rows))]
    by_name = {row["tensor"]: row for row in rows}
    assert by_name["x2"]["layer"] == "1"
    assert by_name["y0"]["layer"] == "0"
    assert by_name["x0"]["layer"] == by_name["logits"]["layer"] == ""
    assert float(by_name["xhat0"]["zero_point"]) == 0
    fidelity_picture.write_png(inspector.fidelity, tmp_path / "i.png", "title $x_1$")
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")


def test_another_graph_is_refused():
    x = graph.Tensor("x", (1, 8), np.int8, 1.0)
    y = graph.Tensor("y", (1, 8), np.int8, 1.0)
    data = writer.write(graph.Graph([x], [y], [graph.Op("ABS", [x], [y])]))
    with pytest.raises(recognize.NotEmbBertError, match="token embedding: 0 GATHER"):
        fidelity_lib.Inspector(data, pm.random_folded(pm.ONE_LAYER))


def test_float_weights_are_those_that_were_rounded(monkeypatch):
    """After QAT a run has two sets of float weights; the file itself tells which is its own."""
    before, after = pm.random_folded(pm.ONE_LAYER, seed=1), pm.random_folded(pm.ONE_LAYER, seed=2)
    monkeypatch.setattr(folding, "fold", lambda model: model)
    run = types.SimpleNamespace(model=before, qat_model=after, path="the/run")
    for model, name in ((before, "fp32"), (after, "quantization-aware fp32")):
        assert fidelity_lib.float_model(run, pm.to_bytes(pm.build(model, 8))) == (model, name)
    other = pm.to_bytes(pm.build(pm.random_folded(pm.ONE_LAYER, seed=3), 8))
    with pytest.raises(ValueError, match="was not converted from the/run"):
        fidelity_lib.float_model(run, other)
    run.qat_model = None
    with pytest.raises(ValueError, match="was not converted from the/run"):
        fidelity_lib.float_model(run, pm.to_bytes(pm.build(after, 8)))
