"""Writes tokenizer.json beside itself: a small tokenizer, and texts with the ids they must have.

Run it only when the tokenization of the project is meant to change:

    python -m tests.golden.make_tokenizer
"""

import json
import pathlib

import tokenizers

from embbert_tf.data import tokenizer as tokenizer_lib

_HERE = pathlib.Path(__file__).resolve().parent
_BENCH_TEXTS = _HERE.parent.parent / "tflm_app" / "tests" / "tokenizer_bench_texts.txt"

# Texts that give the vocabulary letters of several scripts, long runs and nested merges.
_TRAINING = [
    *_BENCH_TEXTS.read_text(encoding="utf-8").splitlines(),
    "Привет, мир! Ελληνικά κείμενα. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. สวัสดี",
    "東京 大阪 東京 京都 한국어 한국 ひらがな カタカナ ß æ ø ł đ ı ŋ Ω µ № ½ ²",
    "aaaaaaaaaaaaaaaa abababababababab abcabcabcabc ------------ ........ ?!?!?! ===",
    "00000000 11111111 20242025 3.14159 1,000,000",
]

_WORDS = "the quick brown fox jumps over the lazy dog and the dog does not mind at all "

# (name, text, pair or None, max_length); bytes are texts that are not UTF-8.
_CASES: list[tuple[str, str | bytes, str | bytes | None, int]] = [
    ("empty", "", None, 256),
    ("one blank", " ", None, 256),
    ("every whitespace", "\t\n\r\x0b\x0c \u00a0\u1680\u2003\u2028\u2029\u3000", None, 256),
    ("blanks around and between", "  turn \t on\u3000the\u00a0 light \r\n", None, 256),
    ("a command", "Turn on the kitchen light, please!", None, 256),
    ("upper case", "TURN ON THE LIGHT", None, 256),
    ("numbers", "at 7:30 pm, 3.14159 or 1,000,000?", None, 256),
    ("underscore is a word character", "kitchen_light __x__", None, 256),
    ("punctuation in runs", "what?!?! -- no... (really) ============", None, 256),
    ("accents composed", "Naïve café, Ærøskøbing, Zażółć gęślą jaźń", None, 256),
    (
        "accents combining",
        "Nai\u0308ve cafe\u0301 Z\u0307\u0323\u0301a\u0301\u0301\u0301",
        None,
        256,
    ),
    ("combining alone", "\u0301 a \u0301b \u0903\u0301", None, 256),
    ("Turkish i", "İstanbul ISPARTA ılık iİıI", None, 256),
    ("sharp s, ligatures, title case", "STRASSE Straße ẞ ﬁ ﬀ ǅ ǆ Ǆ ŉ", None, 256),
    ("Greek and final sigma", "ΕΛΛΗΝΙΚΆ ΚΕΊΜΕΝΑ ΟΔΥΣΣΕΎΣ ὈΔΥΣΣΕΎΣ ᾼ", None, 256),
    ("Cyrillic", "ПРИВЕТ, Мир! Ёлка йод", None, 256),
    ("Hebrew and Arabic", "שָׁלוֹם עולם, مَرْحَبًا بالعالم \u200f\u202bx\u202c", None, 256),
    ("Devanagari and Thai", "नमस्ते दुनिया สวัสดีครับ", None, 256),
    ("Chinese stands alone", "我在東京turn on燈light。", None, 256),
    ("compatibility ideographs", "\uf900\ufa0e\U0002f800x", None, 256),
    (
        "ideograph blocks",
        "\u3400\u4dbf\u9fff\U00020000\U0002b81f\U0002b820\U0002b920\U00030000",
        None,
        256,
    ),
    ("kana are words", "ひらがなとカタカナ ﾊﾝｶｸ パパ", None, 256),
    ("Hangul", "한국어 텍스트 가각힣 \u1112\u1161\u11ab", None, 256),
    ("unknown characters", "ꙮ☃🙂 a☃b ☃☃☃ x🙂y", None, 256),
    ("emoji with joiners", "👩‍👩‍👧‍👦 👍🏽 ☺️ 🇩🇪", None, 256),
    ("controls vanish", "a\x00b\x01c\x7fd\x9fe\u00adf\u200bg\u200dh\ufeffi\ufffdj", None, 256),
    ("private use and unassigned", "a\ue000b\U000f0000c\u0378d\U0010ffffe", None, 256),
    ("symbols and fractions", "½ cup at 20° for 3² №5 µ µΩ €10 a→b", None, 256),
    ("special tokens typed", "turn [SEP] on [CLS][MASK]light[PAD] [UNK] [sep] [SEP", None, 256),
    ("special token across noise", "[S\u200bEP] [SE\u0301P] [[SEP]]", None, 256),
    ("nested merges", "a" * 37 + " " + "ab" * 21 + "a " + "abc" * 13 + " " + "-" * 31, None, 256),
    ("a long word", "donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunter" * 5, None, 256),
    ("overlong", _WORDS * 30, None, 256),
    ("overlong, cut in a word", _WORDS * 3, None, 17),
    ("room for one", "turn on", None, 2),
    ("room for none", "turn on", None, 1),
    ("pair", "Is the light on?", "Yes, the kitchen light is on.", 256),
    ("pair of empty", "", "", 256),
    ("pair, second empty", "turn on", "", 256),
    ("pair, first too long", _WORDS * 9, "turn on the light", 64),
    ("pair, second too long", "turn on the light", _WORDS * 9, 64),
    ("pair, both too long", _WORDS * 9, _WORDS * 8, 64),
    ("pair, both too long, odd, first longer", _WORDS * 9, _WORDS * 8, 33),
    ("pair, no room", "turn on", "the light", 2),
    ("stray continuation", b"a\x80b \xbf\xbfc", None, 256),
    ("cut sequences", b"a\xc3b\xe2\x82c\xf0\x9f\x98d\xf0\x9fe\xe2", None, 256),
    (
        "overlong forms",
        b"a\xc0\xafb\xc1\xbfc\xe0\x80\xafd\xe0\x9f\xbfe\xf0\x80\x80\xaff\xf0\x8f\xbf\xbf",
        None,
        256,
    ),
    ("surrogates in UTF-8", b"a\xed\xa0\x80b\xed\xbf\xbfc\xed\x9f\xbfd", None, 256),
    ("above U+10FFFF", b"a\xf4\x90\x80\x80b\xf5\x80\x80\x80c\xfe\xffd\xf4\x8f\xbf\xbf", None, 256),
    ("lead bytes in a row", b"\xc3\xc3\xa9\xe6\x9d\xe6\x9d\xb1\xf0\xc3\xa9", None, 256),
    ("special token with a bad byte", b"[S\xffEP] [SEP]\xff[CLS\xe2]", None, 256),
    ("pair of malformed", b"turn \xff on", b"\xc3\x28 light\xe2\x82", 256),
]


def _encode(tokenizer, text, pair, max_length):
    texts = [t.decode(errors="replace") if isinstance(t, bytes) else t for t in (text, pair)]
    return tokenizer_lib.encode(tokenizer, texts[0], texts[1], max_length)


def main() -> None:
    """Trains the tokenizer, encodes the cases and writes both."""
    tokenizer = tokenizer_lib.train_tokenizer(
        [line for line in _TRAINING for _ in range(3 if len(line) > 90 else 12)], 800
    )
    cases = []
    for name, text, pair, max_length in _CASES:
        case = {"name": name}
        for key, value in (("text", text), ("pair", pair)):
            if isinstance(value, bytes):
                case[f"{key}_hex"] = value.hex()
            elif value is not None:
                case[key] = value
        case["max_length"] = max_length
        case["ids"] = _encode(tokenizer, text, pair, max_length)
        cases.append(case)
    content = {
        "made_by": f"tests/golden/make_tokenizer.py, tokenizers {tokenizers.__version__}",
        "tokenizer": json.loads(tokenizer.to_str()),
        "cases": cases,
    }
    path = _HERE / "tokenizer.json"
    head, _, tail = json.dumps({**content, "cases": None}, ensure_ascii=True).rpartition("null")
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    path.write_text(f"{head}[\n{lines}\n]{tail}\n", encoding="ascii")
    print(f"{path.name}: {len(cases)} cases, {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
