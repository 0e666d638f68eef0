"""The C kernels against kernels/reference.py, byte for byte, on the host and under QEMU."""

import subprocess

import numpy as np
import pytest

from tests.support.kernel_harness import (
    BOARD_CFLAGS,
    TESTS,
    Case,
    build,
    cflags,
    check,
    params_of,
    run,
    sources,
)
from tests.support.kernel_models import Shape, coded, random_input, random_model

SHAPES = [
    (Shape(), (1, 2, 3, 12, 31, 33, 64, 129, 256)),
    (Shape(d=16, r=4, k=1, labels=1, vocab_size=9), (1, 5, 8, 100)),
    (Shape(d=32, r=8, k=3, e=2, blocks=3), (1, 4, 7, 9, 65)),
    (Shape(d=48, r=12, k=4, blocks=1, last_taps=4), (1, 6, 17)),
    (Shape(d=64, r=16, k=31, e=2), (1, 11, 32, 90)),
    (Shape(d=112, r=20, k=17), (13, 50)),
    (Shape(d=128, e=2, k=32, r=32, last_taps=32), (15, 40)),
]

IMPLEMENTATIONS = {"mps2-an386": "dsp", "mps2-an500": "dsp", "mps3-an547": "mve"}


def cases(shapes=SHAPES):
    """Random and extreme models of every shape class, of few bits too, with every kind of input."""
    result = []
    for number, (shape, lengths) in enumerate(shapes):
        for extreme in (False, True):
            rng = np.random.default_rng(10 * number + extreme)
            model = random_model(shape, rng, extreme)
            runs = [random_input(model, n, rng) for n in lengths]
            runs.append((runs[0][0], None))  # no segments
            result.append(Case(params_of(model), runs, shape.max_length))
            small = coded(model, rng, token_bits=(4, 3, 2)[(number + extreme) % 3])
            result.append(Case(params_of(small), runs, shape.max_length))
    # Rows of zeros: every embedding equals x0's zero point, and then every second one.
    for step in (1, 2):
        rng = np.random.default_rng(7)
        model = random_model(Shape(d=32, vocab_size=12), rng)
        model.token[::step] = 0
        model.position[:] = 0
        model.embed_bias[:] = 0
        runs = [(np.arange(n) % 12, np.ones(n, int)) for n in (1, 2, 9, 40)]
        result.append(Case(params_of(model), runs, 256))
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_portable_on_the_host(folder, compiler):
    program = build("host", folder, compiler=compiler)
    implementation, _, results = run(program, "host", cases(), folder)
    assert implementation == "portable"
    check(cases(), results, "host")


def test_portable_on_the_host_under_sanitizers(folder):
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = build("host", folder, flags)
    check(cases(), run(program, "host", cases(), folder)[2], "host with sanitizers")


@pytest.mark.parametrize("target", BOARD_CFLAGS)
def test_best_implementation_on_boards(folder, target):
    program = build(target, folder)
    some = cases()
    implementation, _, results = run(program, target, some, folder)
    assert implementation == IMPLEMENTATIONS[target]
    check(some, results, target)


@pytest.mark.parametrize(
    ("target", "flag", "name"),
    [
        ("mps2-an386", "-DEMBBERT_FORCE_PORTABLE", "portable"),
        ("mps3-an547", "-DEMBBERT_FORCE_DSP", "dsp"),
    ],
)
def test_lesser_implementations_on_boards(folder, target, flag, name):
    some = cases(SHAPES[1:3])
    implementation, _, results = run(build(target, folder, (flag,)), target, some, folder)
    assert implementation == name
    check(some, results, f"{target} {flag}")


@pytest.mark.slow
@pytest.mark.parametrize("target", BOARD_CFLAGS)
def test_scratch_leaves_72_kb_at_256_tokens_and_38_kb_at_128(folder, target):
    for n, limit in ((256, 72_000), (128, 38_000)):
        params = params_of(random_model(Shape(max_length=n), np.random.default_rng(0)))
        ids = np.zeros(1, int)
        _, scratch, _ = run(build(target, folder), target, [Case(params, [(ids, None)], n)], folder)
        assert 2 * n * 128 + scratch[0] <= limit


@pytest.mark.parametrize("target", BOARD_CFLAGS)
def test_instructions_stay_below_the_limits(folder, target):
    # Million instructions of the reference configuration at n = 256 in the least scratch and at 12
    # in scratch to spare (kernels_test.c); the counts are exact.
    limits = {"mps3-an547": (20.0, 0.56)}.get(target, (88.0, 2.25))
    rng = np.random.default_rng(0)
    model = random_model(Shape(blocks=4), rng)
    inputs = [random_input(model, n, rng) for n in (256, 12)]
    some = [Case(params_of(each), inputs, 256) for each in (model, coded(model, rng))]
    _, _, results = run(build(target, folder), target, some, folder)
    counts, of_codes = ([result.instructions / 1e6 for result in each] for each in results)
    assert all(0.5 * limit < count <= limit for count, limit in zip(counts, limits, strict=True)), (
        counts
    )
    # Weights of 4 bits: at most 3 % more, and 8 % where few rows share their expansion.
    assert of_codes[0] <= 1.03 * counts[0] and of_codes[1] <= 1.08 * counts[1], (counts, of_codes)


def test_errors(folder):
    """tests/kernels_errors_test.c: a bad argument gives its status and touches nothing."""
    program = folder / "errors_test"
    flags = [*cflags(), "-fsanitize=address,undefined"]
    test = TESTS / "kernels_errors_test.c"
    subprocess.run(["gcc", *flags, *sources(), test, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
