"""The C tokenizer gives the ids of Hugging Face `tokenizers`: counted differences, all zero."""

import csv
import gzip
import itertools
import json
import os
import random
import shutil
import subprocess

import pytest
import tokenizers

from converters.firmware import tokenizer_tables
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model import special_tokens
from tests.support import boards
from tests.support import tokenizer_host as host

MARKS = "\u0301\u0327\u0316\u0345\u20dd\u0903\u302e\U0001d165\u1b44\ufe0f\u200d\u200b\u00ad"
SCRIPTS = "aeiAEIßçéİıΣσςжЁשמلعनิสกé한국각東京ひカ٣५Ⅷ½²ǅﬁ_-.!?'\"([]{}#@€°→☃🙂👍🏽 \t\u00a0\u3000"
FULL = bool(os.environ.get("EMBBERT_FULL"))  # Every line of the data, by hand.


class Pair:
    """A tokenizer in both languages."""

    def __init__(self, folder, tokenizer):
        self.tokenizer = tokenizer
        path = folder / "tokenizer.json"
        tokenizer.save(str(path))
        self.tables = folder / "tables.bin"
        self.tables.write_bytes(tokenizer_tables.build_tables(str(path)))

    def python(self, texts, max_length):
        """Ids by Hugging Face, many texts at a time."""
        unknown, sep = special_tokens.UNK, special_tokens.SEP
        return [
            [
                special_tokens.CLS,
                *(unknown if i <= sep else i for i in encoding.ids[: max_length - 1]),
            ]
            for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def differences(self, binary, texts, max_length=1 << 14):
        """Counts and shows texts whose ids differ."""
        texts = list(texts)
        want = self.python(texts, max_length)
        requests = [host.record(text.encode(), None, max_length) for text in texts]
        got = host.encode_all(binary, self.tables, requests)
        wrong = [i for i in range(len(texts)) if want[i] != got[i]]
        for i in wrong[:3]:
            print(f"{texts[i]!r}\n  Hugging Face {want[i][:40]}\n  C            {got[i][:40]}")
        return len(wrong)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory):
    """The encoder as shipped, and with short limits where most words count as long."""
    folder = tmp_path_factory.mktemp("tokenizer")
    shipped = host.build(folder / "encode")
    long_words = host.build(
        folder / "encode_long",
        "gcc",
        "-DEMBBERT_TOKENIZER_SHORT_RUN=1",
        "-DEMBBERT_TOKENIZER_WINDOW=64",
    )
    fast = host.build(folder / "encode_fast", sanitize=False)
    return {"shipped": shipped, "long words": long_words, "fast": fast}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(host.golden()["tokenizer"]))
    return Pair(tmp_path_factory.mktemp("golden"), tokenizer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_tokenizer):
    return Pair(tmp_path_factory.mktemp("trained"), tokenizer_lib.load_tokenizer(data_tokenizer))


# ---- The golden file -----------------------------------------------------------------------------


def golden_requests():
    cases = host.golden()["cases"]
    return cases, [host.record(*host.golden_texts(c), c["max_length"]) for c in cases]


def test_golden_in_python(golden):
    for case in host.golden()["cases"]:
        texts = [t if t is None else t.decode(errors="replace") for t in host.golden_texts(case)]
        ids = tokenizer_lib.encode(golden.tokenizer, *texts, case["max_length"])
        assert ids == case["ids"], case["name"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_golden_in_c(compiler, golden, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    binary = host.build(tmp_path / "encode", compiler)
    cases, requests = golden_requests()
    for case, ids in zip(cases, host.encode_all(binary, golden.tables, requests), strict=True):
        assert ids == case["ids"], case["name"]


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an386", "mps3-an547"])
def test_golden_on_a_device(name, golden, tmp_path):
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not installed")
    target = boards.board(name)
    program = tmp_path / "encode.elf"
    tables = f'-DTABLES_FILE="{golden.tables}"'
    files = (host.PROGRAMS / "tokenizer_encode_device.c", host.SOURCE)
    target.build(program, tables, host.INCLUDE, *files, flags=("-O2",))
    cases, requests = golden_requests()
    (tmp_path / "records").write_bytes(b"".join(requests))
    subprocess.run(
        [
            host.FIRMWARE / "boards/emulate.sh",
            target.machine,
            "900",
            program,
            "encode",
            "records",
            "answers",
        ],
        cwd=tmp_path,
        check=True,
    )
    answers = host.parse_answers((tmp_path / "answers").read_bytes(), len(requests))
    for case, ids in zip(cases, answers, strict=True):
        assert ids == case["ids"], case["name"]


# ---- Every scalar value --------------------------------------------------------------------------


def scalars():
    return itertools.chain(range(0xD800), range(0xE000, 0x110000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "template"),
    [("alone", "{c}"), ("in context", "a{c}b A{c}\u0301{c} 3{c}-{c}")],
)
def test_every_scalar_value(name, template, golden, binaries):
    count = different = 0
    texts = (template.replace("{c}", chr(code)) for code in scalars())
    while some := list(itertools.islice(texts, 100000)):
        count += len(some)
        different += golden.differences(binaries["fast"], some, 64)
    print(f"every scalar value {name}: {count} texts, {different} differences")
    assert (count, different) == (1112064, 0)


# ---- Data, random and adversarial texts ----------------------------------------------------------


def corpus(data):
    path = data / "pretrain" / "corpus.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file)


def csv_texts(data):
    for path in sorted(data.glob("*/*.csv*")):
        # The IMDb reviews are 65 MB: a tenth of them, unless all is wanted.
        step = 10 if "imdb" in str(path) and not FULL else 1
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            for row in itertools.islice(csv.DictReader(file), 0, None, step):
                yield row["text"]
                if row.get("text_pair"):
                    yield row["text_pair"]


def test_every_line_of_the_data(trained, binaries, data_dir):
    count = different = 0
    some_of_corpus = itertools.islice(corpus(data_dir), 0, None, 1 if FULL else 50)
    texts = itertools.chain(csv_texts(data_dir), some_of_corpus)
    while some := list(itertools.islice(texts, 5000)):
        count += len(some)
        different += trained.differences(binaries["fast"], some)
    print(f"data: {count} texts, {different} differences")
    assert count > 50000 and different == 0


def random_texts(seed, count):
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for _ in range(count):
        kind = rng.randrange(5)
        n = rng.choice((1, 3, 10, 40, 150, 400))
        if kind == 0:
            pool = letters[: rng.choice((1, 2, 3, 26))]
        elif kind == 1:
            pool = SCRIPTS
        elif kind == 2:
            pool = SCRIPTS + MARKS * 3
        elif kind == 3:
            pool = ["[SEP]", "[CLS]", "[", "SEP", "]", "a", " ", "\u200b", "[[", "[MASK]"]
        else:
            low = rng.choice((0, 0x300, 0x590, 0x3000, 0xFB00, 0x1F000, 0xE0000))
            pool = [chr(low + i) for i in range(300) if not 0xD800 <= low + i < 0xE000]
        yield "".join(rng.choice(pool) for _ in range(n))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["shipped", "long words"])
def test_random_texts(which, golden, binaries):
    count = 6000
    different = golden.differences(binaries[which], random_texts(1, count))
    print(f"random texts, {which}: {count}, {different} differences")
    assert different == 0


def adversarial_texts(golden):
    rng = random.Random(2)
    vocabulary = [t for t in golden.tokenizer.get_vocab() if t.isalpha()]
    yield "".join(rng.choice("etaoinshrdlu") for _ in range(100000))  # No space at all.
    yield "a" * 100000
    yield "ab" * 50000
    yield "e" + "\u0301" * 100000
    yield "[SEP]" * 5000
    yield "\u202e" + "שלום " * 3000
    yield "👩\u200d👩\u200d👧" * 3000
    for n in range(1, 300):
        yield "a" * n + "-" * n
    for _ in range(300):  # Words glued from tokens: merges compete across every seam.
        yield "".join(rng.choice(vocabulary) for _ in range(rng.randrange(1, 120)))


@pytest.mark.parametrize("which", ["shipped", pytest.param("long words", marks=pytest.mark.slow)])
def test_adversarial_texts(which, golden, binaries):
    texts = list(adversarial_texts(golden))
    different = golden.differences(binaries[which], texts, 1 << 17)
    print(f"adversarial texts, {which}: {len(texts)}, {different} differences")
    assert different == 0


def test_decisions_that_wait_for_the_end_of_a_word(binaries, tmp_path):
    """Every pair here merges before the one to its left, so all hangs on where the word ends."""
    letters = [chr(0x561 + i) for i in range(38)] + [chr(0x10D0 + i) for i in range(43)]
    letters += [chr(0x3B1 + i) for i in range(17)] + [chr(0x430 + i) for i in range(32)]
    letters = [c for c in letters if c.isalpha()]
    pairs = list(itertools.pairwise(letters))[::-1]
    vocab = {t: i for i, t in enumerate([*special_tokens.SPECIAL_TOKENS, *letters])}
    for left, right in pairs:
        vocab[left + right] = len(vocab)
    tokenizer = tokenizer_lib.train_tokenizer(["a a"], 8)
    tokenizer.model = tokenizers.models.BPE(vocab=vocab, merges=pairs, unk_token="[UNK]")
    odd = Pair(tmp_path, tokenizer)
    word = "".join(letters)
    texts = [word[a:b] for a in range(0, 100, 7) for b in range(a + 1, len(word) + 1)]
    texts += [
        word[a:b] + word[c:] for a in (0, 1) for b in range(2, 90, 5) for c in range(1, 60, 3)
    ]
    for which in ("shipped", "long words"):
        different = odd.differences(binaries[which], texts)
        print(f"words decided from their end, {which}: {len(texts)}, {different} differences")
        assert different == 0


def test_malformed_utf8(golden, binaries):
    rng = random.Random(3)
    pieces = [b"a", b"the", b" ", "é".encode(), "東".encode(), "🙂".encode(), b"[SEP]", b"\x00"]
    texts = []
    for _ in range(4000):
        text = bytearray(b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 12))))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(text) + 1)
            text[at : at + rng.randrange(2)] = bytes([rng.randrange(256)])
        texts.append(bytes(text))
    # Every start of a multi-byte character, before a letter and before the end.
    for lead, second in itertools.product(range(0x80, 0x100), range(0x7E, 0xC2)):
        texts.append(bytes([0x61, lead, second, 0x62]))
        texts.append(bytes([lead, second, 0x80]))
        texts.append(bytes([lead, second, 0x80, 0x80, 0x62]))
    want = golden.python([t.decode(errors="replace") for t in texts], 64)
    got = host.encode_all(
        binaries["shipped"], golden.tables, [host.record(t, None, 64) for t in texts]
    )
    wrong = [t for t, w, g in zip(texts, want, got, strict=True) if w != g]
    print(f"malformed UTF-8: {len(texts)} texts, {len(wrong)} differences")
    assert not wrong, wrong[:3]


def test_truncation_of_pairs(golden, binaries):
    """As Hugging Face's enable_truncation cuts, for every length around the limits."""
    words = ["the", "light", "on", "a", "the", "to"]
    tokenizer = golden.tokenizer
    requests = []
    want = []
    # Hugging Face counts the special tokens of a post-processor; here they are set apart.
    for max_length in (2, 3, 4, 5, 8, 9, 16, 17):
        tokenizer.enable_truncation(max_length - 2 or 1, strategy="longest_first")
        for n1, n2 in itertools.product(range(0, max_length + 2), repeat=2):
            first = " ".join(words[i % 6] for i in range(n1))
            second = " ".join(words[-1 - i % 6] for i in range(n2))
            encoding = tokenizer.encode(first, second, add_special_tokens=False)
            if max_length == 2:
                expected = [special_tokens.CLS, special_tokens.SEP]
            else:
                a = [i for i, s in zip(encoding.ids, encoding.type_ids, strict=True) if s == 0]
                b = [i for i, s in zip(encoding.ids, encoding.type_ids, strict=True) if s == 1]
                expected = [special_tokens.CLS, *a, special_tokens.SEP, *b]
            want.append(expected)
            requests.append(host.record(first.encode(), second.encode(), max_length))
    tokenizer.no_truncation()
    got = host.encode_all(binaries["shipped"], golden.tables, requests)
    wrong = sum(w != g for w, g in zip(want, got, strict=True))
    print(f"truncated pairs: {len(want)}, {wrong} differences")
    assert wrong == 0
