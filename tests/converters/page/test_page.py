"""The report page as a file: what is on it, what it says is missing, mistakes; no browser."""

import json
import re
import shutil

import numpy as np
import pytest

from converters.page import answers, browser, charts, costs, views
from converters.page.page import Page
from tests.support import page_models
from tests.support.firmware_model import TinyModel
from tests.support.runs import ROOT, run_command

EACH_KIND = [
    kind if kind in ("a label", "a pair's score") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in page_models.KINDS
]


def text_of(page: Page) -> str:
    return page.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", EACH_KIND)
def test_every_kind_of_task_has_its_page(pages, kind):
    page, model, _ = pages(kind)
    text = text_of(page)
    shown = set(re.findall(r'<section id="(\w+)"', text))
    of_task = {"confusion", "classes", "wrong"} if model.labels else {"scores"}
    with_box = set() if any("box" in m.what for m in page.missing) else {"try"}
    assert shown == {"glance", "learning", "memory", "versions"} | of_task | with_box
    assert text.count("<polyline") == 4
    missing = {m.what for m in page.missing} - {"The box to type into"}
    assert missing == {
        "The float model",
        "The error of each tensor",
        "Flash, RAM and instructions of the firmware",
    }
    for name in missing:
        assert name in text
    assert page.size == page.path.stat().st_size


def test_an_encoder_has_a_page_without_rows_and_box(tmp_path):
    model = page_models.make(tmp_path / "model", "an encoder")
    output = tmp_path / "page.html"
    flags = [f"--model={model.path}", f"--output={output}", "--nomeasure"]
    done = run_command("converters.report_page", *flags)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r'<section id="(\w+)"', output.read_text(encoding="utf-8"))
    assert shown == ["glance", "learning", "memory", "versions"]
    csv = page_models.write_rows(tmp_path / "rows.csv", "a label of two")
    refused = run_command("converters.report_page", *flags, f"--data={csv}")
    assert refused.returncode == 1
    assert "an encoder, which has no labels of its own" in refused.stderr


def test_the_page_needs_nothing_else_and_runs_nothing_else(pages):
    page, _, _ = pages("a label")
    text = text_of(page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;") or policy.startswith(
        "default-src 'none'"
    )
    without_svg = re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    for name, target in re.findall(r'\b(src|href)="([^"]*)"', without_svg):
        assert target.startswith(("#", "data:,")), f"{name}={target}"
    assert not re.search(r"url\(|@import|https?://", without_svg)
    # Whatever rows and labels say is text: there are the page's own scripts and no other.
    assert len(re.findall(r"<script\b", text)) == text.count("</script>") == 4
    assert "<img" not in text
    for label in page_models.HOSTILE[:2]:
        assert label not in text
    for template in ("{{ 7 * 7 }}", "{% raw %}"):
        assert template in text


@pytest.mark.slow
def test_nothing_is_missing_where_run_rows_and_tools_are_at_hand(tmp_path):
    """zoo/snips is its own run; the rows are ours."""
    csv, output = tmp_path / "rows.csv", tmp_path / "page.html"
    csv.write_text("text,label\nplay some quiet jazz,PlayMusic\nrate this book,RateBook\n")
    done = run_command(
        "converters.report_page", "--model=zoo/snips", f"--data={csv}", f"--output={output}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output}: {output.stat().st_size:,} bytes\n"
    text = output.read_text(encoding="utf-8")
    assert "2 rows were run on mps2-an386: every logit is <strong>the same as</strong>" in text
    for form in ("fp32 (Keras)", "quantization-aware (Keras)", "int8 on TFLM", "int8 kernels"):
        assert f">{form}" in text
    settings = json.loads(re.search(r'id="settings">(.*?)</script>', text)[1])
    assert len(settings["instructions"]) == settings["maxTokens"] == 28
    assert sorted(settings["instructions"]) == settings["instructions"]
    assert 100 < settings["perByte"] < 450


def test_a_model_folder_alone_gives_what_can_be_given(tmp_path):
    """No rows, no run, no metrics."""
    model = page_models.make(tmp_path / "model", "a label of two")
    settings = json.loads((model.path / "model.json").read_text())
    for key in ("metrics", "versions"):
        del settings[key]
    (model.path / "model.json").write_text(json.dumps(settings))
    output = tmp_path / "page.html"
    done = run_command(
        "converters.report_page", f"--model={model.path}", f"--output={output}", "--nomeasure"
    )
    assert done.returncode == 0, done.stderr
    first, *missing = done.stdout.splitlines()
    assert first == f"{output}: {output.stat().st_size:,} bytes"
    assert "without The learning curve: model.json says nothing of the training" in missing
    assert any(line.endswith("give labelled rows with --data=test.csv") for line in missing)
    assert '<section id="memory"' in output.read_text(encoding="utf-8")


def test_without_a_compiler_the_page_says_so_and_has_no_box(tmp_path, monkeypatch):
    model = page_models.make(tmp_path / "model", "a label of two")
    browser.program.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    output = tmp_path / "page.html"
    done = run_command(
        "converters.report_page", f"--model={model.path}", f"--output={output}", "--nomeasure"
    )
    assert done.returncode == 0, done.stderr
    mend = "clang and wasm-ld missing; as root: apt-get install clang lld"
    assert f"without The box to type into: {mend}" in done.stdout
    text = output.read_text(encoding="utf-8")
    assert mend in text
    assert "<script" not in text
    assert 'id="try"' not in text


def test_a_compiler_without_webassembly_is_named(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("clang", "wasm-ld"):
        (tools / tool).write_text("#!/bin/sh\necho no such target >&2; exit 1\n")
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    browser.program.cache_clear()
    with pytest.raises(browser.BrowserError, match="no such target\ninstall Debian's clang"):
        browser.program()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=none.csv"], "none.csv: cannot be opened"),
        (["--data={csv}"], "label 'perhaps' does not occur in the training data"),
        (["--run=nowhere"], "nowhere: no such run folder"),
        (["--run={snips}"], "not the run of"),
        (["--output={folder}/none/page.html"], "none/page.html"),
        (["--model=none"], "none: no model folder"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(tmp_path, arguments, message):
    model = page_models.make(tmp_path / "model", "a label of two")
    csv = tmp_path / "rows.csv"
    csv.write_text("text,label\nstart the fan,perhaps\n")
    names = {"csv": csv, "snips": ROOT / "zoo/snips", "folder": tmp_path}
    flags = [f"--model={model.path}", f"--output={tmp_path / 'page.html'}", "--nomeasure"]
    more = [argument.format(**names) for argument in arguments]
    done = run_command("converters.report_page", *flags, *more)
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(tmp_path.glob("**/*.html"))


def test_confidences_are_the_firmwares(tmp_path):
    tiny = TinyModel(tmp_path)
    texts = ["turn on the kitchen light", "x", "volume up"]
    logits = np.stack([tiny.logits(text) for text in texts])
    found = answers.confidences(logits, tiny.model.logits_scale)
    assert [round(100 * float(c), 2) for c in found] == [tiny.answer(text)[1] for text in texts]


def test_confusions_are_counted_and_ranked():
    targets = np.array([0, 0, 0, 1, 1, 2])
    logits = np.eye(3, dtype=np.int8)[[0, 1, 1, 1, 0, 2]]
    found = views.confusion(targets, logits)
    assert found.counts == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert found.frequent == [(0, 1, 2, 2 / 3), (1, 0, 1, 0.5)]
    many = views.confusion(np.arange(100), np.eye(100, dtype=np.int8)[::-1])
    assert many.counts == []
    assert len(many.wrong) == 100
    assert (len(many.frequent), many.more) == (40, 60)


@pytest.mark.parametrize("most", [1, 20, 64, 65, 81, 256, 512])
def test_instructions_of_every_number_of_tokens(most):
    """A square of n on which a pattern of four lies, as the kernels have it."""

    def cost(n):
        return 200_000 * n + 700 * n * n + (0, 90_000, 40_000, 60_000)[n % 4]

    lengths = costs.counted_lengths(most)
    assert lengths == sorted(set(lengths))
    assert (lengths[0], lengths[-1]) == (1, most)
    assert len(lengths) <= 90
    found = costs.by_tokens({n: cost(n) for n in lengths}, most)
    wanted = [cost(n) for n in range(1, most + 1)]
    assert found[: costs.COUNTED_TO] == wanted[: costs.COUNTED_TO]
    np.testing.assert_allclose(found, wanted, rtol=0.03)


def test_axes_have_room_for_every_value():
    for values in ([0.0, 1.0], [5.0], [0.0], [-3.2, 1e6], [1e-9, 2e-9]):
        axis = charts.axis(values, 100, 0)
        for value in values:
            assert 0 <= axis.at(value) <= 100
        assert len(axis.ticks) >= 2
    flat = charts.scatter([(2.0, 2.0), (2.0, 2.0)])
    assert len(flat.lines[0][2]) == 2
    never = charts.learning({"fp32": [{"loss": float("nan"), "valid": float("inf")}]})
    assert never == {}
