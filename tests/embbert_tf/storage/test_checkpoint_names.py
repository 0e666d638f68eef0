"""Prefixes that frameworks put in front of the published names."""

import pytest

from embbert_tf.storage import checkpoint_names


@pytest.mark.parametrize(
    ("names", "known", "prefix"),
    [
        (["encoder.norms.0.weight", "classifier.bias"], ["model.norms.0.weight", ""], "encoder."),
        (["a.b.norms.0.weight", "a.classifier.bias"], ["model.norms.0.weight", ""], "a.b."),
        (["norms.0.weight", "classifier.bias"], ["norms.0.weight", ""], ""),
        (["model._orig_mod.norms.0.weight", "classifier.bias"], ["model.norms.0.weight", ""], None),
        (["norms.0._orig_mod.weight"], ["norms.0.weight"], ""),
        (["other.weight"], ["other.weight"], ""),
        ([], [], ""),
    ],
)
def test_known_names(names, known, prefix):
    known = [name or "classifier.bias" for name in known]
    found = checkpoint_names.known_names(names)
    assert list(found.names.values()) == known
    assert found.prefix == (prefix if prefix is not None else "model._orig_mod.")
