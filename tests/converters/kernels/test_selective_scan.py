"""The selective scan in integers against its definition in float64."""

import dataclasses

import numpy as np
import pytest

from converters.kernels import fixed_point, selective_scan
from tests.support import scan_cases


def steps_off(scan):
    """How far int8 y lies from the scan in float64 of the same int8 inputs, in steps of y."""
    q = scan.quantizations[-1]
    inputs = scan_cases.dequantized(scan.inputs, scan.quantizations)
    wanted = scan_cases.exact(*inputs, scan.log_decay, scan.skip)
    return scan.expected(scan.inputs) - (wanted / q.scale + q.zero_point)


@pytest.mark.parametrize("spread", [0.1, 1.0, 2.5])
def test_error_is_that_of_rounding_y(spread):
    """Half a step is the least that int8 can do; the state's and the decays' errors stay below."""
    for seed in range(4):
        off = steps_off(scan_cases.realistic(seed, spread=spread))
        assert np.abs(off).max() < 0.52, seed


def test_error_stays_when_the_text_is_long():
    off = steps_off(scan_cases.realistic(5, length=1024, channels=8, spread=0.3))
    assert np.abs(off).max() < 0.52


def test_padding_after_a_text_changes_nothing_before_it():
    scan = scan_cases.realistic(0)
    whole = scan.expected(scan.inputs)
    for n in (1, 12, 63):
        np.testing.assert_array_equal(scan.expected(scan.inputs.rows(n)), whole[:n])


def test_batch_is_sequence_by_sequence():
    scan, others = scan_cases.realistic(0), scan_cases.realistic(1)
    batch = [
        np.stack(pair) for pair in zip(scan.inputs.arrays(), others.inputs.arrays(), strict=True)
    ]
    for got, inputs in zip(
        selective_scan.scan(scan.params, *batch), (scan.inputs, others.inputs), strict=True
    ):
        np.testing.assert_array_equal(got, scan.expected(inputs))


def test_state_cannot_overflow():
    """The inputs that make it largest, for as long as the longest text."""
    for seed in range(20):
        params = scan_cases.extreme(seed).params
        fullest = 0.0
        for steps in (-128, 0, 127):
            far = [-128 if zero > 0 else 127 for zero in (params.u_zero, params.state_in_zero)]
            state = _state_after(params, far[0], steps, far[1], selective_scan.MAX_LENGTH)
            assert np.abs(state).max() < 2**31
            fullest = max(fullest, np.abs(state).max())
        # Nor is half of its range given away twice over.
        assert fullest > 2**28 or params.state_in_shift == 23, seed


def _state_after(params, u, steps, state_in, tokens):
    high = selective_scan.reference.multiply_high
    delta = params.delta[steps + 128]
    kept = selective_scan._decays(delta, params.decay, params.fraction)
    stepped = high(delta, (u - params.u_zero) << 23)
    added = high(stepped, (state_in - params.state_in_zero) << params.state_in_shift)
    state = np.zeros(params.decay.shape, np.int64)
    for _ in range(tokens):
        state = 2 * high(state, kept) + added
    return state


def test_decays_are_exact_to_the_fourth_part_of_a_millionth():
    delta = np.array([2**30])
    for fraction in (12, 20, 24, 30):
        # 2^-z for z in steps of 2^-fraction.
        decay = np.unique(np.linspace(0, 2**31 - 1, 100_001).astype(np.int64))
        z = selective_scan.reference.multiply_high(delta, decay) / 2.0**fraction
        got = selective_scan._decays(delta, decay, fraction) / 2.0**31
        assert np.abs(got - np.exp2(-z)).max() < 4e-6
        assert got.max() < 1 and got.min() >= 0


def test_what_the_kernel_cannot_have_is_said():
    scan = scan_cases.realistic(0, 4, 4, 2)
    q, log_decay, skip = list(scan.quantizations), scan.log_decay, scan.skip

    def refused(match, quantizations=q, log_decay=log_decay, skip=skip):
        with pytest.raises(fixed_point.KernelParamsError, match=match):
            selective_scan.scan_params(*quantizations, log_decay, skip, "layer 2")

    def with_scale(place, scale):
        return [dataclasses.replace(x, scale=scale) if i == place else x for i, x in enumerate(q)]

    refused("layer 2: 513 channels", log_decay=np.zeros((513, 2)), skip=np.zeros(513))
    refused("17 states", log_decay=np.zeros((4, 17)))
    refused("skip of shape", skip=np.zeros(3))
    for place, name in enumerate(("u", "steps", "B", "C", "y")):
        refused(f"the scale of {name} is 0", with_scale(place, 0.0))
    refused("a decay is not finite", log_decay=np.full((4, 2), 1000.0))
    refused("step sizes up to", with_scale(1, 100.0), log_decay=np.full((4, 2), 12.0))
    refused("the scale of y is", with_scale(4, 1e-20), skip=np.zeros(4))
    refused("D times u overflows", skip=np.full(4, 1e9))
    good = selective_scan.scan_params(*q, log_decay, skip)
    assert len(good.options()) == 4 * (2 + 11 + 256)
