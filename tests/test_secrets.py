"A secret stands in nothing that is stored or said, whatever its source and form."
import base64
import json
import logging
import os
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings, strategies as st

from mlcllm.runs import find_runs, hide_known, hide_secrets, holds_secret, keep_secret, public_address, read_record, start_run

KEY = "a/b+c=&9 \"q'<é>-Xk77"


def base64_forms(secret):
    "What stands before and behind a secret changes its base64"
    for before in ("", "u", "me", "me:", "user:"):
        for behind in ("", "\n", "&&"):
            said = f"{before}{secret}{behind}".encode()
            yield base64.b64encode(said).decode()
            yield base64.urlsafe_b64encode(said).decode()


def forms(secret):
    "Everything that a server may make of a secret"
    percent = quote(secret, safe="")
    yield from (secret, percent, percent.lower(), quote(secret), quote_plus(secret))
    yield from (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret))
    yield from (secret.encode().hex(), str(list(secret.encode())), "".join(f"%{b:02x}" for b in secret.encode()))
    yield from base64_forms(secret)


@pytest.mark.parametrize("source", ["kept", "environment"])
def test_every_form_is_hidden(monkeypatch, source):
    if source == "kept": keep_secret(KEY)
    else: monkeypatch.setenv("MY_API_KEY", KEY)
    for form in forms(KEY):
        shown = hide_secrets(f"before {form} behind")
        assert form not in shown and len(shown) < len(form) / 2 + 40, form
        assert shown.startswith("before ") and shown.endswith(" behind")
        assert holds_secret(form)


KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.text("ab:", max_size=5))
def test_any_key_is_hidden_in_any_form(key, before):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_TOKEN", key)
        for form in (key, quote(key, safe=""), key.encode().hex()): assert form not in hide_known(f"x {form} x")
        shown = hide_known(base64.b64encode(f"{before}{key}".encode()).decode())
        left = shown.replace("<SERVICE_TOKEN>", "")
        assert len(left) <= len(base64.b64encode(before.encode())) + 4, shown


NAMES = ["OPENAI_API_KEY", "HF_TOKEN", "API_KEY_PROD", "TOKEN_2", "DB_PASSWORD", "MY_PASSPHRASE", "aws_secret", "CREDENTIALS"]


@pytest.mark.parametrize("name", NAMES)
def test_variables_named_like_secrets_are_hidden(monkeypatch, name):
    monkeypatch.setenv(name, "abcdefgh-17")
    assert hide_secrets("is abcdefgh-17.") == f"is <{name}>."


def test_the_longest_secret_is_hidden_first(monkeypatch):
    monkeypatch.setenv("A_KEY", "abcdefgh")
    monkeypatch.setenv("B_KEY", "abcdefgh-and-more")
    assert hide_secrets("abcdefgh-and-more abcdefgh") == "<B_KEY> <A_KEY>"


def test_a_password_of_a_proxy_is_hidden(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pass%2Fword9@proxy:3128")
    for text in ("pass/word9", "pass%2Fword9", "http://me:pass%2Fword9@proxy:3128"): assert "word9" not in hide_secrets(text)


def test_what_is_no_secret_stays(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    keep_secret("EMPTY")
    plain = f"in {os.getcwd()} EMPTY; keyword=joy; https://x.org/?q=joy&keyboard=a; fear, joy"
    assert hide_secrets(plain) == plain


ADDRESSES = [
    ("http://me:s3cret@host:8000/v1", "http://host:8000/v1"), ("http://me:s3@cret@host/v1", "http://host/v1"),
    ("https://s3cret@host/v1", "https://host/v1"), ("https://[::1]:80/v1?api_key=s3cret", "https://[::1]:80/v1"),
    ("http://host/v1?version=2&api_key=s3cret", "http://host/v1?version=2"), ("http://h/v1?code=s3cret", "http://h/v1"),
    ("http://h/v1?x=abcdefghijklmnop-s3cret", "http://h/v1"), ("http://h/v1?subscription-key=s3cret&a=b", "http://h/v1?a=b"),
    ("http://h/v1?Access_Token=s3cret", "http://h/v1"), ("http://h/v1?password=s3cret&pwd=s3cret&sig=s3cret", "http://h/v1"),
    ("http://localhost:8000/v1", "http://localhost:8000/v1"), ("http://h/v1?a=b#c", "http://h/v1?a=b#c"),
    ("see https://h/@me", "see https://h/@me"), ("tiny", "tiny"), ("http://[broken", "http://[broken"),
]


@pytest.mark.parametrize("given, stored", ADDRESSES)
def test_addresses_are_stored_without_secrets(tmp_path, given, stored):
    assert public_address(given) == stored
    options = dict(base_url=given, concurrency=3)
    run = start_run("01", dict(dataset="demo", model="tiny", backend_options=options), output_dir=tmp_path)
    run.done()
    assert read_record(run.folder)["parameters"]["backend_options"] == dict(base_url=stored, concurrency=3)
    assert options["base_url"] == given
    for f in tmp_path.rglob("*"): assert not f.is_file() or b"s3" not in f.read_bytes(), f


class Odd:
    "JSON has no form for it"
    def __str__(self): return f"odd {KEY}"


def test_a_run_keeps_no_secret(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", KEY)
    run = start_run("01", dict(dataset="demo", model="tiny", note=KEY), output_dir=tmp_path)
    run.warn(f"the server said {quote(KEY)}")
    run.log(f"the server said {KEY}")
    run.record["odd"] = Odd()
    with pytest.raises(RuntimeError) as error, run.timed("work"):
        try: raise ValueError(f"first {KEY}")
        except ValueError: raise RuntimeError(f"then {KEY}")
    said = "".join(traceback.format_exception(error.value)) + str(error.value) + "".join(capfd.readouterr())
    stored = [f.read_text() for f in (run.folder / "run.json", run.folder / "run.log")]
    for text in (said, *stored):
        for form in forms(KEY): assert form not in text, form
    assert "<MY_API_KEY>" in stored[0] and "<MY_API_KEY>" in said
    run.done()
    assert find_runs(tmp_path, "01") == [run.folder]
