"A secret stands in nothing that is stored or said, whatever its source and form."

import base64
import json
import os
import traceback
from urllib.parse import quote, quote_plus

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_server_faults import GOOD, served

from mlcllm.openai_engine import load_openai
from mlcllm.runs import (
    find_runs,
    hide_known,
    hide_secrets,
    holds_secret,
    keep_secret,
    public_address,
    read_record,
    start_run,
)

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
    yield from (
        secret.encode().hex(),
        str(list(secret.encode())),
        "".join(f"%{b:02x}" for b in secret.encode()),
    )
    yield from base64_forms(secret)


@pytest.mark.parametrize("source", ["kept", "environment"])
def test_every_form_is_hidden(monkeypatch, source):
    if source == "kept":
        keep_secret(KEY)
    else:
        monkeypatch.setenv("MY_API_KEY", KEY)
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
        for form in (key, quote(key, safe=""), key.encode().hex()):
            assert form not in hide_known(f"x {form} x")
        shown = hide_known(base64.b64encode(f"{before}{key}".encode()).decode())
        left = shown.replace("<SERVICE_TOKEN>", "")
        assert len(left) <= len(base64.b64encode(before.encode())) + 4, shown


NAMES = [
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "API_KEY_PROD",
    "TOKEN_2",
    "DB_PASSWORD",
    "MY_PASSPHRASE",
    "aws_secret",
    "CREDENTIALS",
]


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
    for text in ("pass/word9", "pass%2Fword9", "http://me:pass%2Fword9@proxy:3128"):
        assert "word9" not in hide_secrets(text)


def test_what_is_no_secret_stays(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    keep_secret("EMPTY")
    plain = f"in {os.getcwd()} EMPTY; keyword=joy; https://x.org/?q=joy&keyboard=a; fear, joy"
    assert hide_secrets(plain) == plain


ADDRESSES = [
    ("http://me:s3cret@host:8000/v1", "http://host:8000/v1"),
    ("http://me:s3@cret@host/v1", "http://host/v1"),
    ("https://s3cret@host/v1", "https://host/v1"),
    ("https://[::1]:80/v1?api_key=s3cret", "https://[::1]:80/v1"),
    ("http://host/v1?version=2&api_key=s3cret", "http://host/v1?version=2"),
    ("http://h/v1?code=s3cret", "http://h/v1"),
    ("http://h/v1?x=abcdefghijklmnop-s3cret", "http://h/v1"),
    ("http://h/v1?subscription-key=s3cret&a=b", "http://h/v1?a=b"),
    ("http://h/v1?Access_Token=s3cret", "http://h/v1"),
    ("http://h/v1?password=s3cret&pwd=s3cret&sig=s3cret", "http://h/v1"),
    ("http://localhost:8000/v1", "http://localhost:8000/v1"),
    ("http://h/v1?a=b#c", "http://h/v1?a=b"),
    ("see https://h/@me", "see https://h/@me"),
    ("tiny", "tiny"),
    ("http://[broken", "http://[broken"),
    ("http://h/v1?s3cret", "http://h/v1"),
    ("http://h/v1?s3cret==", "http://h/v1"),
    ("http://h/v1?=s3cret&a=b", "http://h/v1?a=b"),
    ("http://h/v1#api_key=s3cret", "http://h/v1"),
    ("http://h/v1#s3cret", "http://h/v1"),
    ("http://me:s3/cret@host/v1", "http://host/v1"),
    ("http://me:a@s3cret/x@host/v1", "http://host/v1"),
    ("http://me:s3?cret@host/v1", "http://host/v1"),
    ("http://s3cret?x@host/v1", "http://host/v1"),
    ("http://me:s3cret@[broken", "http://[broken"),
    ("http://h/v1?apikey[]=s3cret", "http://h/v1"),
    ("http://h/v1?key[prod]=s3cret&a=b", "http://h/v1?a=b"),
    ("http://h/v1?pass phrase=s3cret", "http://h/v1"),
    ("http://h/v1?pass%20phrase=s3cret", "http://h/v1"),
    ("http://h/v1?a=1;api_key=s3cret", "http://h/v1?a=1"),
    ("http://h/v1;key=s3cret", "http://h/v1"),
    ("http://h/a;v=1;key=s3cret/b?c=d", "http://h/a;v=1/b?c=d"),
    ("http://h;key=s3cret/v1", "http://h/v1"),
    ("http://h/v1?user=me@x.org", "http://h/v1?user=me@x.org"),
    ("https://h/@me", "https://h/@me"),
    ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ("http://h:80", "http://h:80"),
]


@pytest.mark.parametrize("given, stored", ADDRESSES)
def test_addresses_are_stored_without_secrets(tmp_path, given, stored):
    assert public_address(given) == stored
    options = dict(base_url=given, concurrency=3)
    run = start_run("01", dict(dataset="demo", model="tiny", backend_options=options), output_dir=tmp_path)
    run.done()
    assert read_record(run.folder)["parameters"]["backend_options"] == dict(base_url=stored, concurrency=3)
    assert options["base_url"] == given
    for f in tmp_path.rglob("*"):
        assert not f.is_file() or b"s3" not in f.read_bytes(), f


class Odd:
    "JSON has no form for it"

    def __str__(self):
        return f"odd {KEY}"


def test_a_run_keeps_no_secret(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", KEY)
    run = start_run("01", dict(dataset="demo", model="tiny", note=KEY), output_dir=tmp_path)
    run.warn(f"the server said {quote(KEY)}")
    run.log(f"the server said {KEY}")
    run.record["odd"] = Odd()
    with pytest.raises(RuntimeError) as error, run.timed("work"):
        try:
            raise ValueError(f"first {KEY}")
        except ValueError:
            raise RuntimeError(f"then {KEY}")  # noqa: B904 (both messages are looked at)
    said = "".join(traceback.format_exception(error.value)) + str(error.value) + "".join(capfd.readouterr())
    stored = [f.read_text() for f in (run.folder / "run.json", run.folder / "run.log")]
    for text in (said, *stored):
        for form in forms(KEY):
            assert form not in text, form
    assert "<MY_API_KEY>" in stored[0] and "<MY_API_KEY>" in said
    run.done()
    assert find_runs(tmp_path, "01") == [run.folder]


# ---- a server that repeats the key in every field ----

LEAKED = "sk_live-Zz9/+=8877665544"


def every_form():
    return [f for f in forms(LEAKED) if "\n" not in f]


def echo(where, form):
    "An answer in which the key stands in one field, or in all"
    said = {
        k: form if where in (k, "all") else v
        for k, v in dict(
            id="x",
            model="tiny",
            fingerprint="f",
            reason="length",
            content=" joy",
            token=" joy",
            other=" fear",
            usage=3,
            logprob=-0.1,
            error=None,
            more="y",
        ).items()
    }
    one = dict(
        token=said["token"],
        logprob=said["logprob"],
        bytes=list(form.encode()) if where in ("bytes", "all") else None,
        top_logprobs=[dict(token=said["token"], logprob=-0.1), dict(token=said["other"], logprob=-3.0)],
    )
    choice = dict(
        message=dict(content=said["content"]), logprobs=dict(content=[one]), finish_reason=said["reason"]
    )
    answer = {
        "id": said["id"],
        "model": said["model"],
        "system_fingerprint": said["fingerprint"],
        "choices": [choice],
        "usage": dict(prompt_tokens=said["usage"], completion_tokens=1),
        said["more"]: said["more"],
    }
    return answer | (dict(error=dict(message=form, code=form)) if where == "error" else {})


FIELDS = [
    "id",
    "model",
    "fingerprint",
    "reason",
    "content",
    "token",
    "other",
    "bytes",
    "usage",
    "logprob",
    "error",
    "more",
    "all",
]


@pytest.fixture
def source(request, tmp_path, monkeypatch):
    "Where the key comes from; the options that lead to it"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    address = "http://{}/v1"
    if request.param == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", LEAKED)
    if request.param == ".env":
        (tmp_path / ".env").write_text(f'# keys\nexport OPENAI_API_KEY = "{LEAKED}"\n')
    if request.param == "password":
        address = f"http://me:{quote(LEAKED, safe='')}@{{}}/v1"
    if request.param == "query":
        address = f"http://{{}}/v1?api_key={quote(LEAKED, safe='')}"
    return lambda server: address.format(f"127.0.0.1:{server.server_address[1]}")


def stored_under(folder):
    "All bytes of all files, but for .env"
    return b"\n".join(f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".env").decode(
        "utf-8", "replace"
    )


def asks_and_stores(base_url, folder):
    "What a notebook does: it loads, asks, and keeps what was said"
    options = dict(
        base_url=base_url, tokenizer="tiny", cache=str(folder / "kept.sqlite"), retries=0, api="chat"
    )
    run = start_run(
        "01", dict(dataset="demo", model="tiny", backend_options=options), output_dir=folder / "runs"
    )
    try:
        with run.timed("work"):
            engine = load_openai("tiny", options)
            (got,) = engine.generate([engine.encode("Say:")], 1)
            for note in engine.notes:
                run.warn(note)
            run.save_table("docs", pd.DataFrame(dict(output=[got.text], model=[engine.model_hash])))
            run.done()
            return repr(engine) + repr(got)
    except ValueError as error:
        assert "\n" not in str(error)
        return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "source, where",
    [(".env", f) for f in FIELDS] + [(s, "all") for s in ("environment", "password", "query")],
    indirect=["source"],
)
def test_a_server_that_repeats_the_key_leaves_it_nowhere(source, tmp_path, where, caplog, capfd):
    caplog.set_level("DEBUG")
    many = (
        [LEAKED]
        if where != "all"
        else [LEAKED, quote(LEAKED, safe=""), base64.b64encode(f"me:{LEAKED}".encode()).decode()]
    )
    shown = []
    for form in many:
        with served(
            200, echo(where, form), models=dict(data=[dict(id="tiny", root=form, owned_by=form)])
        ) as server:
            shown.append(asks_and_stores(source(server), tmp_path))
    text = "\n".join([*shown, caplog.text, *capfd.readouterr(), stored_under(tmp_path)])
    for form in every_form():
        assert form not in text, form


@pytest.mark.parametrize("source", [".env"], indirect=True)
@pytest.mark.parametrize("status", [302, 400, 401, 402, 404, 429, 503])
def test_errors_and_headers_that_repeat_the_key(source, tmp_path, status, caplog, capfd):
    caplog.set_level("DEBUG")
    shown = []
    for form in (quote(LEAKED, safe=""), "a" * 290 + LEAKED):
        body = dict(error=dict(message=f"Bearer {form}", type=form, param=form, code=form, **{form: form}))
        headers = [
            ("Location", f"http://host/{quote(form)}?key={quote(form)}"),
            ("Retry-After", quote(form)),
            ("X-Key", quote(form)),
            ("WWW-Authenticate", quote(form)),
        ]
        with served(status, body, headers) as server:
            shown.append(asks_and_stores(source(server), tmp_path))
        with served(status, form.encode(), headers) as server:
            shown.append(asks_and_stores(source(server), tmp_path))
    text = "\n".join([*shown, caplog.text, *capfd.readouterr(), stored_under(tmp_path)])
    assert "http://127.0.0.1" in text
    for form in (*every_form(), LEAKED[:12]):
        assert form not in text, form


@pytest.mark.parametrize(
    "behind",
    ["/v1;key={}", "/a;jwt={};v=2/v1", "/v1;{}", "/v1?{}", "/v1#{}", "/v1#api_key={}", "/v1?a=1;api_key={}"],
)
def test_a_key_anywhere_in_an_address_is_neither_said_nor_kept(behind, tmp_path, caplog):
    caplog.set_level("DEBUG")
    secret = f"Zz9-{behind.encode().hex()}-0123456789abcdef"
    with served(
        lambda n: (200, GOOD) if n < 3 else (500, dict(error=dict(message=f"no {secret}")))
    ) as server:
        base_url = f"http://127.0.0.1:{server.server_address[1]}{behind.format(secret)}"
        engine = load_openai(
            "tiny",
            dict(
                base_url=base_url,
                tokenizer="tiny",
                cache=str(tmp_path / "kept.sqlite"),
                retries=0,
                api="chat",
                top_logprobs=20,
            ),
        )
        engine.generate([engine.encode("Say:")], 1)
        with pytest.raises(ValueError, match="^http://127.0.0.1.*/v1[:;]") as error:
            engine.generate([engine.encode("Say it:")], 1)
    assert secret in str(engine.client.api.base_url) or ";" not in behind.partition("?")[0]
    for said in (str(error.value), repr(engine), engine.model_hash, caplog.text, stored_under(tmp_path)):
        assert secret not in said
    assert hide_secrets(secret) == "<hidden>"


def test_a_key_is_no_option(tmp_path):
    for name in ("api_key", "key", "token", "openai_api_key", "password"):
        with pytest.raises(ValueError, match="is no backend option.*set OPENAI_API_KEY") as error:
            load_openai("tiny", dict(tokenizer="tiny", **{name: LEAKED + name}))
        assert LEAKED not in str(error.value)
        assert hide_secrets(f"is {LEAKED}{name}") == "is <hidden>"


def test_an_answer_that_spells_the_key_is_not_used(tmp_path, monkeypatch):
    from mlcllm.engines import load_engine

    tiny = load_engine("tiny", gpu="cpu")
    monkeypatch.setenv("OPENAI_API_KEY", LEAKED)
    ids = tiny.tokenizer(f" {LEAKED}", add_special_tokens=False).input_ids
    names = [tiny.tokenizer.decode([i]) for i in ids]
    steps = [dict(token=n, logprob=-0.1, top_logprobs=[dict(token=n, logprob=-0.1)]) for n in names]
    answer = dict(
        choices=[dict(message=dict(content=f" {LEAKED}"), logprobs=dict(content=steps), finish_reason="stop")]
    )
    with served(lambda n: (200, GOOD if n == 1 else answer)) as server:
        said = asks_and_stores(f"http://127.0.0.1:{server.server_address[1]}/v1", tmp_path)
    assert "ValueError" in said and LEAKED not in said + stored_under(tmp_path)


def test_a_notebook_that_a_sweep_keeps_says_no_password(tmp_path):
    from mlcllm.sweeps import _hide

    path = tmp_path / "n.ipynb"
    address = f"http://me:{quote(LEAKED, safe='')}@host/v1?api_key={quote(LEAKED, safe='')}"
    said = repr(dict(backend_options=dict(base_url=address)))
    book = dict(
        cells=[dict(cell_type="code", source=said, outputs=[dict(text=[said])])],
        metadata=dict(papermill=dict(parameters=dict(base_url=address))),
    )
    path.write_text(json.dumps(book))
    _hide(path)
    shown = json.loads(path.read_text())
    assert (
        quote(LEAKED, safe="") not in path.read_text()
        and "@host/v1" in shown["metadata"]["papermill"]["parameters"]["base_url"]
    )
    for odd in (tmp_path / "none", tmp_path):
        _hide(odd)


@pytest.mark.parametrize(
    "address",
    [
        "htp://me:s3cret@host/v1",
        "me:s3cret@host:80/v1",
        "ftp://h?key=s3cret",
        "s3cret://s3cret@h",
        "http://me:s3cret@h /v1",
    ],
)
def test_messages_about_addresses_show_no_password(address):
    from mlcllm.checks import check_parameter

    with pytest.raises(ValueError, match="base_url must be an address") as error:
        check_parameter("backend_options", dict(base_url=address))
    assert "s3cret" not in str(error.value).replace("s3cret://", "")
    with pytest.raises(ValueError) as error:
        load_openai("tiny", dict(base_url=address, tokenizer="tiny", retries=0, cache=False))
    assert "s3cret" not in str(error.value)


def test_a_sweep_keeps_secrets_in_one_private_file(tmp_path, monkeypatch):
    import papermill

    from mlcllm import sweeps

    address = "http://me:S3cretPass99@127.0.0.1:9/v1?api_key=QueryKey8877"
    options = dict(base_url=address, token="NamedOne5566")
    (tmp_path / "g.yaml").write_text(
        json.dumps(
            dict(
                parameters=dict(backend="openai", backend_options=options, n_docs=2),
                jobs={"01_stepwise_logits": {}},
            )
        )
    )
    (job,) = sweeps.plan(sweeps.read_grid(tmp_path / "g.yaml"))
    out = tmp_path / "out"
    sweeps._write_plan(out, [job])
    assert list(sweeps.read_plan(out)) == [job.id]
    given = {}

    def execute(book, path, parameters, **_):  # as papermill, whose kernel dies
        names = dict(parameters)
        for c in book.cells:
            if "kept_apart" in c.source:
                exec(c.source, names)
        given.update(names)
        with open(path, "w") as to:
            json.dump(
                dict(
                    cells=[dict(cell_type="code", source=c.source, outputs=[]) for c in book.cells]
                    + [parameters]
                ),
                to,
            )
        assert os.stat(path).st_mode & 0o777 == 0o600
        raise RuntimeError("the kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(RuntimeError, match="the kernel died"):
        sweeps.run_job(out, job.id)
    assert given["backend_options"] == options and given["n_docs"] == 2
    holds = [
        p
        for p in out.rglob("*")
        if p.is_file() and any(w in p.read_text() for w in ("S3cretPass99", "QueryKey8877", "NamedOne5566"))
    ]
    assert [p.name for p in holds] == [".secrets.json"]
    for p in (holds[0], out / "sweep" / "plan.json", *(out / "sweep" / "failed").glob("*")):
        assert p.stat().st_mode & 0o777 == 0o600
    holds[0].unlink()
    with pytest.raises(RuntimeError, match="start the sweep again"):
        sweeps.run_job(out, job.id)
    sweeps._write_plan(out, [job])
    sweeps._write_plan(
        out, sweeps.plan(sweeps.Grid({"demo": {}}, {"tiny": {}}, (0,), {}, {"01_stepwise_logits": {}}))
    )
    assert not holds[0].exists()
