"""The parts of a pre-training step add up."""

import dataclasses

import pytest

from embbert_tf import corpus, pretrain_benchmark
from embbert_tf.config import PRESETS


def test_parts_add_up():
    config = dataclasses.replace(PRESETS["tiny"], vocab_size=2000)
    costs = pretrain_benchmark.measure(config, 16, 1600, repeats=3)
    assert costs.tokens == 1600
    parts = costs.forward + costs.softmax + costs.backward + costs.optimizer
    assert parts == pytest.approx(costs.step)
    assert costs.step > costs.forward > 0 and costs.batch_input > 0


def test_refuses_short_sequences():
    with pytest.raises(corpus.CorpusError, match="too short"):
        pretrain_benchmark.measure(PRESETS["tiny"], 4, 64, repeats=1)
