"""The report page in a real browser: what it answers, how it looks, who can use it."""

import re
import shutil

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from converters.evaluation import board
from converters.evaluation.evaluation import fused_logits
from converters.evaluation.model import load_model
from converters.page import page as page_lib
from converters.page.options import PageOptions
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files
from tests.support import chromium, page_models
from tests.support.firmware_model import make
from tests.support.runs import ROOT, run_command

EACH_KIND = [
    kind if kind in ("a label", "a pair's score") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in page_models.KINDS
]
SNIPS_ROWS = """text,label
play some quiet jazz in the kitchen,PlayMusic
what will the weather be like in oslo tomorrow,GetWeather
book a table for four at seven,BookRestaurant
rate this book four of five stars,RateBook
add this song to my running list,AddToPlaylist
when does the film start,SearchScreeningEvent
find the painting of the water lilies,SearchCreativeWork
play the weather report,GetWeather
"""
# Ratio of contrast of every text with what lies behind it, but for the shaded cells of matrices.
CONTRASTS = """
const parse = (text) => {
  const n = text.match(/-?[\\d.]+/g).map(Number);
  const share = text.startsWith("color(") ? 255 : 1;
  return [n[0] * share, n[1] * share, n[2] * share, n[3] ?? 1];
};
const over = (top, below) => top.map((v, i) => i === 3 ? 1 : v * top[3] + below[i] * (1 - top[3]));
const behind = (e) => {
  if (e === null) return [255, 255, 255, 1];
  const own = parse(getComputedStyle(e).backgroundColor);
  return own[3] === 1 ? own : over(own, behind(e.parentElement));
};
const light = (c) => c.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const e of document.querySelectorAll("body *:not(script):not(svg *)")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== "");
  if (!own || e.closest(".visually-hidden, .skip")) continue;
  const ground = behind(e);
  const pair = [light(over(parse(getComputedStyle(e).color), ground)), light(ground)];
  const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)} ${ratio}`);
}
return found;
"""
# What a screen reader would stumble over.
STUMBLES = """
const bad = [];
const all = (selector) => [...document.querySelectorAll(selector)];
for (const e of all("textarea")) if (e.labels.length !== 1) bad.push("no label: " + e.id);
for (const e of all("table")) if (!e.caption?.textContent.trim()) bad.push("no caption");
for (const e of all("th")) if (!["row", "col"].includes(e.scope)) bad.push("scope: " + e.outerHTML);
for (const e of all("[role=region]")) if (!e.ariaLabel || e.tabIndex !== 0) bad.push("region");
for (const e of all("[role=img]")) if (!e.ariaLabel) bad.push("no name: " + e.outerHTML);
for (const e of all("button")) if (!e.textContent.trim()) bad.push("button");
for (const e of all("nav a, .skip")) {
  if (!document.querySelector(e.getAttribute("href"))) bad.push("link: " + e.href);
}
const ids = all("[id]").map((e) => e.id);
if (new Set(ids).size !== ids.length) bad.push("an id is there twice");
const levels = all("h1, h2, h3, h4").map((e) => Number(e.tagName[1]));
levels.forEach((level, i) => { if (i > 0 && level > levels[i - 1] + 1) bad.push("heading " + i); });
if (levels.filter((level) => level === 1).length !== 1) bad.push("h1");
if (!document.documentElement.lang || !document.title) bad.push("lang or title");
return bad;
"""


def load(driver, path, size=chromium.DESKTOP, dark=False):
    chromium.show(driver, path, size, dark)
    wait(driver, lambda d: state(d) != "loading")


def wait(driver, until):
    WebDriverWait(driver, 60).until(until)


def state(driver):
    return driver.find_element(By.ID, "answer").get_attribute("data-state")


def said(driver):
    return driver.find_element(By.ID, "answer").text


def classify(driver, text, pair=""):
    return driver.execute_script(
        "return window.embbert.classify(arguments[0], arguments[1])", text, pair
    )


def assert_quiet(driver):
    """Nothing went wrong, was refused by the page's policy or was looked for elsewhere."""
    assert driver.get_log("browser") == []


def assert_same_answers(driver, model, rows):
    """Token ids and logits of rows are those of the tokenizer and of the kernels' reference."""
    sequences = [
        model.encode(row.text, row.text_pair if model.pair else None)[: model.max_length]
        for row in rows
    ]
    expected = fused_logits(model.tflite, model.pair, sequences)
    for row, ids, logits in zip(rows, sequences, expected, strict=True):
        found = classify(driver, row.text, row.text_pair or "")
        assert "error" not in found, found
        assert found["ids"] == ids
        np.testing.assert_array_equal(found["logits"], logits)
    return expected


@pytest.mark.parametrize("kind", EACH_KIND)
def test_every_kind_answers_as_the_reference(pages, driver, kind):
    page, model, csv = pages(kind)
    load(driver, page.path)
    rows = examples_lib.read_all(csv)[:17]
    expected = assert_same_answers(driver, model, rows)
    # The words of the last one, typed.
    boxes = driver.find_elements(By.TAG_NAME, "textarea")
    assert len(boxes) == 1 + model.pair
    for box, text in zip(boxes, (rows[0].text, rows[0].text_pair), strict=False):
        driver.execute_script("arguments[0].value = arguments[1]", box, text)
    boxes[0].send_keys(Keys.ENTER)
    if model.labels:
        best = int(expected[0].argmax())
        assert re.fullmatch(
            rf"(unsure, perhaps )?{re.escape(model.labels[best])} [\d.]+ % \(\d+ tokens\)",
            driver.find_element(By.ID, "answer").get_property("textContent"),
        )
        first = driver.find_element(By.CSS_SELECTOR, "#logits td").text
        assert int(first) == expected[0].max()
    else:
        score = float(re.fullmatch(r"score (-?[\d.]+) \(\d+ tokens\)", said(driver))[1])
        assert score == pytest.approx(float(model.dequantize(expected[0])[0]), abs=1.1e-3)
    # No text and no label has become a part of the page.
    assert driver.title == f"{page.path.stem}: report"
    assert not driver.find_elements(By.CSS_SELECTOR, "img, section b, [onfocus], [onerror]")
    assert_quiet(driver)


def test_wrong_answers_can_be_tried(pages, driver):
    page, _, _ = pages("a label")
    load(driver, page.path)
    row = driver.find_element(By.CSS_SELECTOR, "#wrong tbody tr:has(button)")
    text, answer, confidence = (
        row.find_element(By.CSS_SELECTOR, selector).get_property("textContent")
        for selector in (".text", "td:nth-child(3)", "td:nth-child(4)")
    )
    button = row.find_element(By.TAG_NAME, "button")
    show = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    driver.execute_script(show, button)
    button.click()
    assert driver.find_element(By.ID, "text").get_property("value") == text
    assert driver.switch_to.active_element.get_attribute("id") == "text"
    words = driver.find_element(By.ID, "answer").get_property("textContent")
    assert words.startswith(f"{answer} {confidence} (")
    assert_quiet(driver)


@pytest.mark.parametrize(
    ("size", "dark"),
    [(chromium.DESKTOP, False), (chromium.DESKTOP, True), (chromium.PHONE, False)],
    ids=["desktop", "dark", "phone"],
)
def test_the_page_is_legible(pages, driver, tmp_path, size, dark):
    for kind in ("a label", "a pair's score"):
        page, _, _ = pages(kind)
        load(driver, page.path, size, dark)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0]
        assert driver.execute_script(CONTRASTS) == []
        assert driver.execute_script(STUMBLES) == []
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
        assert driver.save_screenshot(str(tmp_path / f"{len(kind)}.png"))
        assert (tmp_path / f"{len(kind)}.png").stat().st_size > 10_000
    assert_quiet(driver)


def test_the_keyboard_suffices_and_answers_are_announced(pages, driver):
    page, _, _ = pages("a label")
    load(driver, page.path)
    answer = driver.find_element(By.ID, "answer")
    assert (answer.aria_role, answer.get_attribute("aria-live")) == ("status", "polite")
    assert said(driver) == "Type a sentence."
    for _ in range(20):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        if driver.switch_to.active_element.get_attribute("id") == "text":
            break
    box = driver.switch_to.active_element
    assert box.get_attribute("id") == "text"
    box.send_keys("turn it up")  # answers a moment later, without a key of its own
    wait(driver, lambda d: state(d) in ("sure", "unsure"))
    assert "(4 tokens)" in said(driver)
    box.send_keys(Keys.SHIFT, Keys.ENTER, Keys.NULL, "up up", Keys.ENTER)
    assert box.get_property("value") == "turn it up\nup up"
    assert "(6 tokens)" in said(driver)
    assert len(driver.find_elements(By.CSS_SELECTOR, "#tokens li")) == 6
    driver.execute_script("arguments[0].value = '  '", box)
    box.send_keys(Keys.ENTER)
    assert said(driver) == "Type a sentence."
    assert "Too long" in classify(driver, "up " * 100_000)["error"]
    assert_quiet(driver)


@pytest.fixture(scope="module")
def snips(tmp_path_factory):
    """The page of zoo/snips with a few rows of our own, without its float model."""
    folder = tmp_path_factory.mktemp("snips")
    for name in ("model.tflite", "tokenizer.json", "labels.txt", "model.json"):
        shutil.copy(ROOT / "zoo/snips" / name, folder / name)
    csv = folder / "rows.csv"
    csv.write_text(SNIPS_ROWS)
    options = PageOptions(data=str(csv), measure=False)
    return page_lib.write_page(folder, folder / "page.html", options), csv


def test_snips_in_the_browser_is_snips_on_the_board(snips, driver):
    page, csv = snips
    model = load_model("zoo/snips")
    load(driver, page.path)
    assert_same_answers(driver, model, examples_lib.read_all(csv))
    text = "play some quiet jazz"
    driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)
    assert said(driver) == "PlayMusic 92.92 % (5 tokens)"
    # The firmware itself, as a program of this machine.
    printed = make("run", MODEL="zoo/snips", TEXT=text).stdout
    assert printed.startswith("PlayMusic 92.92 %\ntokens 5\n")
    assert driver.find_element(By.CSS_SELECTOR, ".matrix caption").text.startswith("Rows: label")
    assert_quiet(driver)
    # It is mostly the model: 1.34 times the image, and the engine.
    assert page.size < 900_000


@pytest.fixture(scope="module")
def voice_commands(tmp_path_factory):
    """What `make demo` makes of examples/voice_commands, after a shorter training."""
    build = tmp_path_factory.mktemp("build")
    rows = ROOT / "examples/voice_commands"
    done = run_command(
        "converters.pipeline",
        f"--train={rows / 'train.csv'}",
        f"--test={rows / 'test.csv'}",
        f"--build={build}",
        "--name=voice_commands",
        "--train_flags=--epochs=2",
        "--qat_flags=--epochs=1 --samples=64",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"  page: {build / 'voice_commands/report.html'}\n" in done.stdout
    return build / "voice_commands"


@pytest.mark.slow
def test_the_demos_page_answers_every_test_row_as_the_board_did(voice_commands, driver):
    load(driver, voice_commands / "report.html")
    rows = examples_lib.read_all(voice_commands / board.DEVICE_ROWS)
    logits = board.read_logits(voice_commands / board.DEVICE_LOGITS, len(rows), 14)
    assert len(rows) == 392
    instructions = 0
    for row, expected in zip(rows, logits, strict=True):
        found = classify(driver, row.text)
        assert found["logits"] == expected.tolist()
        instructions += found["instructions"]
    report = files.read_json(voice_commands / "report.json")
    # As exact as the page says: below 1 % of what the board has counted.
    assert instructions == pytest.approx(report["device_figures"]["instructions"], rel=0.003)
    parts = [e.get_attribute("id") for e in driver.find_elements(By.CSS_SELECTOR, "section")]
    assert parts == [
        "try", "glance", "confusion", "classes", "wrong", "learning", "tensors", "memory",
        "versions",
    ]  # fmt: skip
    assert not driver.find_elements(By.CSS_SELECTOR, ".missing")
    assert driver.execute_script(CONTRASTS) == []
    assert driver.execute_script(STUMBLES) == []
    text = driver.find_element(By.ID, "glance").text
    assert "every logit is the same as the reference's" in text
    assert_quiet(driver)
