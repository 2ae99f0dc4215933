"""Cleaned posts: as many as before, never empty, the same when cleaned again; whatever the characters; real
corpora in seconds.
"""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm import texts as module
from mlcllm.data import load_docs
from mlcllm.texts import _BORDER, _MOST_PASSES, DOMAINS, _clean, clean_text, preprocess

PIECES = [
    "@bob",
    "#SoHappy",
    "#throwbackthursday",
    "#1",
    "#",
    "##a",
    "https://t.co/x",
    "www.a.org/b(c)",
    "http://",
    "bit.ly/x",
    "a.b@c.org",
    "555-123-4567",
    "&amp;",
    "&amp;lt;",
    "&#32;",
    "&",
    ";",
    "😂",
    "❤️",
    "👩‍👩‍👧",
    "🇫🇷",
    "1️⃣",
    "sooo",
    "Looool",
    "XVIII",
    "!!!",
    "?!?",
    "...",
    "*a*",
    "**b**",
    "*",
    "f**k",
    "can't",
    "don’t",
    "y'all'd've",
    "'",
    "[NAME]",
    "[RELIGION]",
    "/r/aww",
    "u/me",
    "[w](http://a.b/c)",
    "[",
    "]",
    "(",
    ")",
    ":-)",
    "<3",
    "_",
    "-",
    "İstanbul",
    "ǅ",
    "ẞ",
    "ﬁ",
    "\u200d",
    "\ufe0f",
    "\u0301",
    "مرحبا",
    "#مرحبا_بكم",
    "日本語",
    "\n",
    "\t",
    "\xa0",
    "word",
    "A",
    "5",
]
posts = st.one_of(
    st.text(min_size=1, max_size=30),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).flatmap(
        lambda ps: st.sampled_from(["", " "]).map(lambda s: s.join(ps))
    ),
).filter(str.strip)


@settings(deadline=None, max_examples=400)
@given(posts, st.sampled_from(sorted(DOMAINS)))
def test_cleaning_again_changes_nothing(text, domain):
    once = clean_text([text], domain)
    assert len(once) == 1 and once[0].strip() and clean_text(once, domain) == once


@settings(deadline=None, max_examples=150)
@given(posts, st.sampled_from([(d, s) for d, steps in DOMAINS.items() for s in steps]))
def test_each_step_alone(text, which):
    domain, step = which
    once = clean_text([text], domain, [step])
    assert once[0].strip() and clean_text(once, domain, [step]) == once


@settings(deadline=None, max_examples=100)
@given(posts)
def test_it_comes_to_rest_early(text):
    "The bound on passes is never what ends the loop"
    for steps in DOMAINS.values():
        seen = []
        _clean(text, [lambda t: seen.append(t) or t, *steps.values()])
        assert len(seen) < _MOST_PASSES


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.characters(codec="ascii", categories=("Lu", "Ll", "Nd")), min_size=1, max_size=15))
def test_hashtags_keep_their_letters(tag):
    assert re.sub(r"[-_ #]", "", clean_text(["#" + tag], "twitter", ["hashtag"])[0]) == tag


def test_unasked_steps_leave_plain_text_alone():
    plain = "A plain sentence, with a comma; nothing else (really) to do."
    for domain, steps in DOMAINS.items():
        assert clean_text([plain], domain, [s for s in steps if s != "words"]) == [plain]
    assert clean_text([], "twitter") == [] and preprocess((), "reddit") == ()


@pytest.mark.parametrize(
    "before, after",
    [
        ("https://t.co/x", "url"),
        ("@bob", "user"),
        ("me@mail.org", "email"),
        ("😂", "face with tears of joy"),
        ("...", "."),
        ("*", "*"),
        ("&#32;", "&#32;"),
        ("#", "#"),
        ("\u200d", "\u200d"),
        ("@Bob_1 you’re LATE!!!", "user you are late !"),
        ("#MakeItCount2018 #icantbreathe", "# make-it-count - 2018 # i-cant-breathe"),
        ("RT @a: see http://a.b/c, ok?", "rt user : see url , ok ?"),
    ],
)
def test_twitter(before, after):
    assert clean_text([before], "twitter") == [after]


@pytest.mark.parametrize(
    "before, after",
    [
        ("[NAME]'s a [RELIGION] man", "user's a religion man"),
        ("r/aww", "aww"),
        ("thanks /u/Some_one!", "thanks user !"),
        ("[here](https://a.org/x_(y)) and [there](https://a.org)", "here url and there url"),
        ("**Edit:** wasn't *that* bad", "edit : was not that bad"),
        ("and/or /s w/o", "and / or / s w / o"),
    ],
)
def test_reddit(before, after):
    assert clean_text([before], "reddit") == [after]


def test_borders_of_words_in_hashtags():
    for tag, words in {
        "ABTest": "AB Test",
        "iPhoneX": "i Phone X",
        "Trump2016": "Trump 2016",
        "4thOfJuly": "4th Of July",
        "a_b__c": "a b c",
    }.items():
        assert _BORDER.sub(" ", tag) == words


@pytest.mark.parametrize(
    "text",
    [
        "1" * 20000,
        "a" * 20000,
        "#" + "ab" * 5000,
        "@" * 20000,
        "*" * 20000,
        "(" * 5000,
        "http://" * 3000,
        "." * 20000,
        "a." * 10000,
        "&amp;" * 5000,
        "😂" * 3000,
        "soo" * 6000,
        "-" * 20000,
        "a@" * 8000,
        "[a](" * 5000,
    ],
    ids=lambda t: t[:8],
)
def test_long_runs_take_no_age(text):
    began = time.time()
    out = clean_text([text], "reddit")
    assert out[0].strip() and time.time() - began < 5


def test_goemotions(data_root):
    texts = load_docs("GoEmotions", "train", data_dir=data_root / "goemotions").texts
    preprocess(texts[:5], "reddit")  # word lists are loaded
    began = time.time()
    cleaned = preprocess(texts, "reddit")
    seconds = time.time() - began
    assert (
        isinstance(cleaned, tuple)
        and len(cleaned) == len(texts) == 43410
        and all(t.strip() for t in cleaned)
        and seconds < 30 * 2
    )  # 11 s on two quiet cores
    assert not any("[NAME]" in t or "[name]" in t for t in cleaned)
    assert preprocess(cleaned[::20], "reddit") == cleaned[::20]


def test_semeval(data_root):
    texts = load_docs("SemEval", "train", data_dir=data_root / "semeval2018").texts
    cleaned = preprocess(texts, "twitter")
    assert (
        len(cleaned) == 6838
        and preprocess(cleaned, "twitter") == cleaned
        and not any(re.search(r"https?://|(?<!\w)@\w|#\w*[a-z]", t) for t in cleaned)
    )
    kept = preprocess(texts[:200], {"domain": "twitter", "without": ["words", "user"]})
    assert sum("@" in t for t in kept) == sum("@" in t for t in texts[:200])


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: preprocess(("a",), "Twiter"), "unknown domain of texts 'Twiter'; did you mean 'twitter'?"),
        (lambda: preprocess(("a",), None), "unknown domain of texts None"),
        (lambda: preprocess(("a",), {"steps": ["url"]}), "unknown domain of texts None"),
        (lambda: preprocess(("a",), {"domain": "twitter", "step": ["url"]}), "did you mean 'steps'?"),
        (lambda: preprocess(("a",), {"domain": "twitter", "steps": ["urls"]}), "did you mean 'url'?"),
        (lambda: preprocess(("a",), {"domain": "twitter", "steps": "url"}), "steps must be a list"),
        (lambda: preprocess(("a",), {"domain": "twitter", "without": "url"}), "without must be a list"),
        (
            lambda: preprocess(("a",), {"domain": "twitter", "without": ["hashtags"]}),
            "did you mean 'hashtag'?",
        ),
        (lambda: clean_text("a post", "twitter"), "texts must be a list of strings, got 'a post'"),
        (lambda: clean_text(["a", 3.0], "twitter"), "got 3.0"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_missing_package_is_one_line(monkeypatch):
    def refuse(name, *args, **kwargs):
        raise ModuleNotFoundError(f"No module named {name!r}")

    module._emoji.cache_clear()
    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(
        ImportError,
        match=r"packages that are not installed \(No module named 'emoji'\): pip install 'mlcllm\[texts\]'",
    ):
        clean_text(["😂"], "twitter", ["emoji"])
    assert clean_text(["@bob"], "twitter", ["user"]) == ["user"]  # the others need none


def test_importing_the_module_loads_none_of_them():
    import subprocess
    import sys

    code = (
        "import sys, mlcllm.texts; print([m for m in ('emoji', 'nltk', 'wordninja_enhanced', "
        "'contraction_fix') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
