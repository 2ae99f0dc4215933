"Servers that say what cannot be, hang, or change: one line with the server's name, or a warning and a count."

import json
import sqlite3
import threading
import time
import warnings
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from fake_server import FakeServer

from mlcllm.engines import load_engine
from mlcllm.openai_engine import _steps, load_openai

WORD = " joy"


def listed(values, written=WORD, p=None, text=None, **more):
    "An answer in chat form: one token, and a list"
    top = [dict(token=t, logprob=v) for t, v in values]
    one = dict(token=written, logprob=dict(values)[written] if p is None else p, top_logprobs=top)
    return dict(
        choices=[
            dict(
                message=dict(content=written if text is None else text),
                logprobs=dict(content=[one]),
                finish_reason="length",
                **more,
            )
        ],
        usage=dict(prompt_tokens=3, completion_tokens=1),
    )


GOOD = listed([(WORD, -0.1), (" fear", -3.0), (" anger", -4.0)])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(200, self.server.models)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        answer = self.server.answer
        self.send(*(answer(self.server.asked) if callable(answer) else answer))

    def send(self, status, body, headers=(), slowly=0):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for k in range(len(data) if slowly else 1):
            try:
                self.wfile.write(data[k : k + 1] if slowly else data)
            except OSError:
                return
            time.sleep(slowly)


NO_MODELS = {}


@contextmanager
def served(*answer, models=NO_MODELS):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.asked, server.models = True, 0, models
    server.answer = answer[0] if callable(answer[0]) else answer
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def engine_at(server, **more):
    at = dict(
        base_url=f"http://127.0.0.1:{server.server_address[1]}/v1",
        tokenizer="tiny",
        cache=False,
        api="chat",
        retries=0,
        top_logprobs=20,
    )
    return load_openai("tiny", at | more)


def ask(engine):
    return engine.generate([engine.encode("Say:")], 1)


def ask_value(engine):
    return engine.score([engine.encode("Say:")], [5])


IMPOSSIBLE = {
    "twenty likely tokens": listed([(f" {chr(97 + k)}", -0.2) for k in range(20)], " a"),
    "two certain ones": listed([(WORD, 0.0), (" fear", 0.0)]),
    "base 10": listed([(WORD, -0.2), (" fear", -0.6), (" anger", -0.9)]),
    "a probability": listed([(WORD, 0.87)]),
    "null": listed([(WORD, None)]),
    "nan": listed([(WORD, float("nan"))]),
    "a text": listed([(WORD, "-.1")]),
    "infinite": listed([(WORD, float("inf"))]),
    "minus infinite": listed([(WORD, -0.1), (" fear", -float("inf"))]),
    "positive": listed([(WORD, 0.005)]),
    "huge": listed([(WORD, -0.1), (" fear", -(10**400))]),
    "true": listed([(WORD, True)]),
    "null in the list": listed([(WORD, -0.1), (" fear", None)]),
    "nan in the list": listed([(WORD, -0.1), (" fear", float("nan"))]),
    "bytes that are a number": dict(
        choices=[
            dict(
                message=dict(content=WORD),
                logprobs=dict(content=[dict(token=WORD, bytes=10**12, logprob=-0.1)]),
            )
        ]
    ),
    "no choices": dict(choices=[]),
    "choices null": dict(choices=None),
    "pairs": dict(
        choices=[dict(logprobs=dict(tokens=["a"], token_logprobs=[-0.1], top_logprobs=[[["a", -0.1]]]))]
    ),
    "unequal": dict(
        choices=[dict(logprobs=dict(tokens=["a", "b"], token_logprobs=[-0.1], top_logprobs=[{"a": -0.1}]))]
    ),
    "a number for a choice": dict(choices=[3]),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_is_one_line_with_the_server(name):
    with pytest.raises(ValueError) as error:
        _steps(IMPOSSIBLE[name])
    assert "\n" not in str(error.value)
    for api in ("chat", None):
        with served(200, IMPOSSIBLE[name]) as server:
            with pytest.raises(ValueError, match="http://127.0.0.1") as error:
                ask(engine_at(server, api=api))
            assert "\n" not in str(error.value) and "zip()" not in str(error.value)


def test_what_can_be_is_read():
    for values in (
        [(WORD, 0.0)],
        [(WORD, 0.0), (" fear", -9999.0)],
        [(WORD, -0.7), (" fear", -0.7)],
        [(WORD, -0.1), (" fear", -3.4e38)],
        [(WORD, 1e-6)],
    ):
        assert _steps(listed(values))
    with served(200, GOOD) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(engine_at(server))[0].text == WORD


REPLIES = {
    "no credits": (
        (200, dict(error=dict(message="no credits left, key sk-abcdefghijklmnopqrstuvwxyz"))),
        "no credits left",
    ),
    "a page": ((200, b"<html>hello</html>"), "HTML"),
    "a list": ((200, []), "a list and no object"),
    "null": ((200, b"null"), "null and no object"),
    "cut off": ((200, b'{"choices": [{"index"'), "cut off"),
    "deep": ((200, b"[" * 100_000), "nested too deep"),
    "payment": ((402, dict(error=dict(message="pay"))), "no credit left"),
    "forbidden": ((403, dict(error=dict(message="no"))), "may not use"),
    "broken": ((500, dict(error=dict(message="boom"))), "the server itself fails"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_a_server_says_instead_of_an_answer(name):
    reply, says = REPLIES[name]
    with served(*reply) as server, pytest.raises(ValueError, match="http://127.0.0.1") as error:
        ask(engine_at(server))
    assert says in str(error.value) and "\n" not in str(error.value) and "sk-abcdef" not in str(error.value)


@pytest.mark.parametrize(
    "usage", [None, "x", [], dict(prompt_tokens="many", completion_tokens=None), dict(prompt_tokens=-1)]
)
def test_usage_that_is_none_counts_as_the_most_that_it_can_be(usage):
    with served(200, GOOD | dict(usage=usage)) as server:
        engine = engine_at(server)
        ask(engine)
        assert engine.stats["tokens_sent"] + engine.stats["tokens_out"] >= 2 * len(engine.encode("Say:"))


@pytest.mark.parametrize(
    "models",
    [b"[" * 100_000, b"{", [], None, dict(data="x")],
    ids=["deep", "cut off", "list", "null", "text"],
)
def test_models_in_a_strange_form_say_nothing(models):
    with served(200, GOOD, models=models) as server:
        assert ask(engine_at(server))[0].text == WORD


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "answer, counted",
    [
        (listed([(" fear", -0.2), (" anger", -3.0), (" no", -4.0), (WORD, -5.0)]), True),
        (listed([(WORD, -0.1), (" fear", -4.0)], p=-3.1), True),
        (listed([(WORD, -0.7), (" fear", -0.695)]), False),
        (GOOD, False),
    ],
    ids=["fourth", "other value", "a tie", "best"],
)
def test_draws_are_noticed(answer, counted):
    with served(200, answer) as server:
        engine = engine_at(server)
        ask(engine)
        assert (
            (engine.stats["tokens_not_greedy"] > 0)
            == counted
            == any("temperature=0" in l for l in engine.notes)
        )


def test_missing_parts_are_refused():
    with (
        served(200, listed([(WORD, -0.1)], text=" fear, joy")) as server,
        pytest.raises(ValueError, match="part of the answer are missing"),
    ):
        ask(engine_at(server))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "reason, ends",
    [
        ("stop", "eos"),
        (None, "eos"),
        ("length", "length"),
        ("content_filter", "length"),
        ("tool_calls", "length"),
        ("function_call", "length"),
    ],
)
def test_other_ends_are_read_as_cut_off(reason, ends):
    answer = json.loads(json.dumps(GOOD))
    answer["choices"][0]["finish_reason"] = reason
    with served(200, answer) as server:
        engine = engine_at(server)
        (got,) = engine.generate([engine.encode("Say:")], 5)
        assert got.finish_reason == ends and engine.stats["answers_ended_otherwise"] == (
            ends == "length" and reason != "length"
        )


def test_a_change_during_a_run_is_said_once(tmp_path):
    with served(lambda n: (200, GOOD | dict(system_fingerprint="a" if n < 3 else "b"))) as server:
        engine = engine_at(server, cache=str(tmp_path / "kept.sqlite"), concurrency=1)
        prompts = [engine.encode(t) for t in ("one", "two", "three", "four")]
        with pytest.warns(UserWarning, match="has changed while it was asked") as said:
            engine.generate(prompts, 1)
        assert (
            sum("has changed" in str(w.message) for w in said) == 1
            and sum("has changed" in l for l in engine.notes) == 1
        )
        n = server.asked
        server.answer = lambda n: (200, GOOD | dict(system_fingerprint="a"))
        again = engine_at(server, cache=str(tmp_path / "kept.sqlite"))
        again.generate(prompts, 1)
        assert again.stats["cached_answers"] == 1 and server.asked == n + 4


def test_a_request_has_an_end():
    with served(200, GOOD, (), 0.2) as server:
        began = time.monotonic()
        with pytest.raises(ValueError, match="does not answer in time"):
            ask(engine_at(server, timeout=1.0))
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("wait, timeout", [("30", 5.0), ("1", 1.5)])
def test_waits_are_said_and_have_an_end(wait, timeout):
    with (
        served(503, dict(error=dict(message="busy")), [("Retry-After", wait)]) as server,
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        began = time.monotonic()
        with pytest.raises(ValueError, match="the server itself fails"):
            ask(engine_at(server, timeout=timeout, retries=5))
        assert time.monotonic() - began < 8 and sum(
            "asks to wait for 1 s" in str(w.message) for w in said
        ) == (wait == "1")


# ---- budgets ----

QUESTION = "Say:"
USAGES = [
    None,
    "x",
    [],
    {},
    dict(prompt_tokens=0, completion_tokens=0, total_tokens=0),
    dict(prompt_tokens=-5, completion_tokens=-9),
    dict(prompt_tokens="1", completion_tokens="1"),
    dict(prompt_tokens=None, completion_tokens=None),
    dict(prompt_tokens=True, completion_tokens=False),
    dict(prompt_tokens=1, completion_tokens=0),
]


def long_answer(n, usage):
    "n words"
    one = dict(token=WORD, logprob=-0.1, top_logprobs=[dict(token=WORD, logprob=-0.1)])
    return dict(
        choices=[
            dict(message=dict(content=WORD * n), logprobs=dict(content=[one] * n), finish_reason="length")
        ],
        usage=usage,
    )


@pytest.mark.parametrize("k", range(len(USAGES)))
def test_at_least_what_is_there_is_counted(k):
    with served(200, long_answer(7, USAGES[k])) as server:
        engine = engine_at(server)
        engine.model_hash
        before = dict(engine.stats)
        engine.generate([engine.encode(QUESTION)], 7)
        assert engine.stats["tokens_sent"] - before["tokens_sent"] == len(engine.encode(QUESTION))
        assert engine.stats["tokens_out"] - before["tokens_out"] == 7


BAD = {
    "no choices": (200, dict(choices=[])),
    "no log-probabilities": (200, dict(choices=[dict(message=dict(content=WORD))])),
    "null values": (200, listed([(WORD, None)])),
    "cut off": (200, b'{"choices": [{"index"'),
    "a list": (200, []),
    "nan": (200, listed([(WORD, float("nan"))])),
    "other usage": (200, dict(choices=[], usage=dict(prompt_tokens=0, completion_tokens=0))),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize(
    "usage", [dict(max_tokens=100), dict(max_cost=100e-6, price_in=1, price_out=1)], ids=["tokens", "money"]
)
def test_answers_that_fail_the_check_count_towards_the_budget(name, usage):
    with served(*BAD[name]) as server:
        engine = engine_at(server, retries=100, **usage)
        with pytest.raises(ValueError, match="the budget is used up") as error:
            ask(engine)
        assert "\n" not in str(error.value)
        assert 100 - 20 <= engine.stats["tokens_sent"] + engine.stats["tokens_out"] <= 100
        assert server.asked <= 10 and engine.client.reserved == (0, 0)


def test_requests_that_run_at_once_do_not_exceed_the_budget():
    with served(200, long_answer(4, None)) as server:
        engine = engine_at(server, max_tokens=200, concurrency=8)
        prompts = [engine.encode(f"Say {k}:") for k in range(50)]
        with pytest.raises(ValueError, match="the budget is used up"):
            engine.generate(prompts, 4)
        assert engine.stats["tokens_sent"] + engine.stats["tokens_out"] <= 200 and server.asked < 40


# ---- ends ----


class Drips(BaseHTTPRequestHandler):
    "A byte each tenth of a second: of the headers, of the answer, or of chunks"

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        begin = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        if self.server.drips == "body":
            begin += b"Content-Length: 100000\r\n\r\n"
        if self.server.drips == "chunks":
            begin += b"Transfer-Encoding: chunked\r\n\r\n"
        if self.server.drips == "headers":
            begin += b"X-More: "
        if self.server.drips == "nothing":
            begin = b""
        self.close_connection = True
        try:
            self.wfile.write(begin)
            for _ in range(200):
                self.wfile.write(dict(chunks=b"1\r\n \r\n", nothing=b"").get(self.server.drips, b" "))
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass


@pytest.mark.parametrize("drips", ["body", "chunks", "headers", "nothing"])
def test_a_request_that_drips_has_an_end(drips):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drips)
    server.daemon_threads, server.drips = True, drips
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        engine = engine_at(server, timeout=0.5, retries=1)
        began = time.monotonic()
        with pytest.raises(ValueError, match="does not answer in time") as error:
            engine.client.ask(True, dict(messages=[]), 4, 1)
        assert time.monotonic() - began < 4 and "\n" not in str(error.value)
        began = time.monotonic()
        assert engine.client.card() == {} and time.monotonic() - began < 4
        assert (
            engine.stats["tokens_sent"] == 8 and engine.stats["tokens_out"] == 2
        )  # two requests, which may have been answered
    finally:
        server.shutdown()
        server.server_close()


class Floods(BaseHTTPRequestHandler):
    "An answer without an end"

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        zipped = zlib.compressobj(wbits=31)
        self.send_response(200)
        if self.server.zipped:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(4 * 10**9))
        self.end_headers()
        self.close_connection = True
        block = b" " * 2**20
        try:
            for _ in range(400):
                data = (
                    zipped.compress(block) + zipped.flush(zlib.Z_SYNC_FLUSH) if self.server.zipped else block
                )
                self.wfile.write(data)
                self.server.sent += len(block)
        except OSError:
            pass


@pytest.mark.parametrize("zipped", [False, True])
def test_answers_have_a_largest_size(zipped):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Floods)
    server.daemon_threads, server.zipped, server.sent = True, zipped, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        engine = engine_at(server, retries=3)
        with pytest.raises(ValueError, match="more than 32 MB as one answer") as error:
            engine.client.ask(True, dict(messages=[]), 4, 1)
        assert "\n" not in str(error.value)
        assert zipped or server.sent < 100 * 2**20
    finally:
        server.shutdown()
        server.server_close()


# ---- first answers ----

FIRST = {
    "no log-probabilities": dict(choices=[dict(text=WORD)]),
    "no choices": dict(choices=[]),
    "choices null": dict(choices=None),
    "nothing": {},
    "values null": dict(
        choices=[dict(text=WORD, logprobs=dict(tokens=[WORD], token_logprobs=[None], top_logprobs=[{}]))]
    ),
    "a list": [],
    "cut off": b"{",
    "no tokens": dict(choices=[dict(text="", logprobs=dict(tokens=[], token_logprobs=[], top_logprobs=[]))]),
    "other ids": dict(
        choices=[
            dict(
                text=WORD,
                logprobs=dict(
                    tokens=["token_id:5"], token_logprobs=[-0.1], top_logprobs=[{"token_id:5": -0.1}]
                ),
            )
        ]
    ),
}


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("retries", [0, 3])
def test_a_bad_first_answer_is_not_what_the_server_is(tiny, tmp_path, monkeypatch, name, retries):
    from fake_server import Handler as True_

    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123456")
    asked, reply = [], True_.reply

    def bad_first(self, *args):
        asked.append(1)
        return FIRST[name] if len(asked) == 1 else reply(self, *args)

    def send(self, status, body, cut=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    monkeypatch.setattr(True_, "reply", bad_first)
    monkeypatch.setattr(True_, "send", send)
    at = dict(tokenizer="tiny", cache=str(tmp_path / "kept.sqlite"), retries=retries)
    with FakeServer(tiny, "full") as server:
        for _ in range(2):
            engine = load_openai("tiny", at | dict(base_url=server.url))
            assert engine.api == "full" and engine.model_hash
    if name == "other ids":
        return  # always: a server of another kind, which names ids
    with served(*((200, FIRST[name]))) as server:
        with pytest.raises(ValueError, match="http://127.0.0.1") as error:
            engine = engine_at(server, api=None, retries=retries)
            assert name == "no log-probabilities" and engine.text_only  # its text can be read all the same
            ask_value(engine)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


@pytest.mark.parametrize(
    "bad",
    [
        dict(choices=[]),
        listed([(WORD, None)]),
        dict(choices=None, usage=None),
        b"{",
        GOOD | dict(choices=[{}]),
    ],
    ids=["no choices", "a null", "nulls", "cut off", "empty choice"],
)
def test_bad_answers_are_asked_for_again(bad):
    with served(lambda n: (200, bad if n % 2 else GOOD | dict(usage=None))) as server:
        engine = engine_at(server, retries=2)
        assert ask(engine)[0].text == WORD and server.asked == 4


ODD_ENDS = {
    "message": WORD,
    "message listed": [WORD],
    "finish_reason": ["stop"],
    "finish_reason told": dict(type="stop"),
}


@pytest.mark.parametrize("field", ODD_ENDS)
def test_a_message_or_an_end_of_another_kind_is_asked_for_again_and_never_kept(field, tmp_path):
    bad = GOOD | dict(choices=[GOOD["choices"][0] | {field.split()[0]: ODD_ENDS[field]}])
    with served(lambda n: (200, GOOD if n == 1 else bad)) as server:
        at = dict(cache=str(tmp_path / "kept.sqlite"), retries=1)
        with pytest.raises(
            ValueError, match=f"^http://127.0.0.1.*its {field.split()[0]} is a [a-z]+ and no"
        ) as raised:
            ask(engine_at(server, **at))
        assert server.asked == 3 and "\n" not in str(raised.value)
        with sqlite3.connect(tmp_path / "kept.sqlite") as db:
            assert db.execute("select count(*) from answers").fetchone() == (0,)


ERRORS = [
    (dict(message="overloaded", code=503), True),
    (dict(message="slow down", code="429"), True),
    (dict(message="no such thing", code=400), False),
    (dict(message="no credits left"), False),
    ("broken", False),
]


@pytest.mark.parametrize("error, passes", ERRORS)
@pytest.mark.parametrize("place", ["alone", "with choices", "in a choice"])
def test_an_error_with_status_200_says_so(error, passes, place):
    answer = dict(error=error)
    if place == "with choices":
        answer |= GOOD
    if place == "in a choice":
        answer = GOOD | dict(choices=[GOOD["choices"][0] | dict(error=error)])
    said = error["message"] if isinstance(error, dict) else error
    with served(200, answer) as server:
        with pytest.raises(ValueError, match=f"http://127.0.0.1.*{said}") as raised:
            ask(engine_at(server, retries=2))
        assert server.asked == (3 if passes else 1) and "\n" not in str(raised.value)


def test_a_stored_answer_that_is_damaged_is_asked_for_again(tmp_path):
    with served(200, GOOD) as server:
        at = dict(cache=str(tmp_path / "kept.sqlite"))
        ask(engine_at(server, **at))
        for damaged in ("{", "3", "null", json.dumps(dict(choices=[]))):
            with sqlite3.connect(tmp_path / "kept.sqlite") as db:
                db.execute("update answers set answer=?", (damaged,))
            engine = engine_at(server, **at)
            assert ask(engine)[0].text == WORD and engine.stats["cached_answers"] == 0
        assert ask(engine)[0].text == WORD and engine.stats["cached_answers"] == 1


DAMAGED = ["{", "null", "5", None, b"\xff", "[]", "[" * 5000]
TOLD_ODDLY = [
    "{}",
    '{"written": 1, "values": {}}',
    '{"written": "x", "values": [1]}',
    '{"written": "x", "values": {"x": "y"}}',
]


def test_a_stored_model_that_is_damaged_is_as_one_never_stored(tmp_path):
    kept = tmp_path / "kept.sqlite"
    damage = [("said", v) for v in TOLD_ODDLY] + [(c, v) for c in ("said", "card") for v in DAMAGED]
    with served(200, GOOD) as server:
        engine = engine_at(server, cache=str(kept))
        assert ask(engine)[0].text == WORD
        (stored,) = engine.client.kept.models(engine._server)
        for column, value in [("api", "x"), ("space", None), *damage]:
            with sqlite3.connect(kept) as db:
                db.execute("delete from models where rowid > 1")
                db.execute(
                    "update models set api=?, card=?, said=?, space=?",
                    (stored[0], *map(json.dumps, stored[1:3]), stored[3]),
                )
                db.execute(f"update models set {column}=?", (value,))
            assert engine.client.kept.models(engine._server) == [], (column, value)
        again = engine_at(server, cache=str(kept))
        assert (
            ask(again)[0].text == WORD
            and again.notes == engine.notes
            and again.client.kept.models(again._server) == [stored]
        )


@pytest.mark.parametrize("told", ["nan", "inf", "-inf", "-5", "1e999"])
def test_a_time_to_wait_that_can_be_none_is_as_one_not_given(told):
    with served(lambda n: (429, {}, [("Retry-After", told)]) if n == 2 else (200, GOOD)) as server:
        engine = engine_at(server, retries=1)
        assert ask(engine)[0].text == WORD and server.asked == 3


REFUSALS = {
    b"too\nlong \x1b[31m" + b"x" * 500: r"too long \\x1b\[31mx+$",
    b"<html><h1>Bad\n Request</h1></html>": "Bad Request$",
    b"<html>": "<html>$",
    b"\xff": "400 - \ufffd$",
    b"[1]": "400$",
}


@pytest.mark.parametrize("body", REFUSALS)
def test_a_refusal_that_is_no_json_is_shown_by_its_first_words(body):
    with served(lambda n: (200, GOOD) if n == 1 else (400, body)) as server:
        engine = engine_at(server)
        with pytest.raises(ValueError, match=f"^http://127.0.0.1:.*Error code: .*{REFUSALS[body]}") as raised:
            ask(engine)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 260


@pytest.mark.parametrize(
    "address", ["http://\u2603.example/v1", "http://me:s3cret@\u2603/v1?key=s3cret", "http://h/v\x01"]
)
def test_an_address_that_cannot_be_one_is_refused_in_one_line(address):
    with pytest.raises(ValueError, match="^backend option base_url must be an address such as") as raised:
        load_openai("tiny", dict(base_url=address, tokenizer="tiny", cache=False, retries=0))
    assert "s3cret" not in str(raised.value) and str(raised.value).isprintable()


# ---- names ----


@pytest.mark.parametrize(
    "values, p",
    [
        ([-1.0, -2.0], np.logaddexp(-1, -2)),
        ([-3.0, -3.5, -4.0], np.logaddexp.reduce([-3, -3.5, -4])),
        ([-1.0, -1.0], -1.0),
        ([-2.0], -2.0),
    ],
)
@pytest.mark.parametrize("shape", ["chat", "completions"])
def test_a_token_named_twice_adds_up(tiny, values, p, shape):
    (fear,) = tiny.tokenizer(" fear", add_special_tokens=False).input_ids
    if shape == "chat":
        answer = json.dumps(listed([(WORD, -0.7), *((" fear", v) for v in values)])).encode()
    else:
        answer = (
            json.dumps(
                dict(
                    choices=[
                        dict(
                            text=WORD,
                            finish_reason="length",
                            logprobs=dict(tokens=[WORD], token_logprobs=[-0.7], top_logprobs=["HERE"]),
                        )
                    ]
                )
            )
            .encode()
            .replace(
                b'"HERE"',
                b"{"
                + b", ".join(
                    f'"{n}": {v}'.encode() for n, v in [(WORD, -0.7), *((" fear", v) for v in values)]
                )
                + b"}",
            )
        )
    with served(200, answer) as server:
        got = engine_at(server, api=shape).score([tiny.encode(QUESTION)], [fear])
        assert got.logits[0, 0] == pytest.approx(p)


PIECES = [
    "\ufffd",
    "\ufffd\ufffd",
    "",
    "bytes:\\xf0",
    "<0xF0>",
    "\u0120\u00f0",
    "strange \u2603 piece",
    "token_id:999999999",
]


@pytest.mark.parametrize("k", range(len(PIECES)))
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pieces_behind_a_finished_list_never_stop_a_run(k, n):
    names = [" joy", ",", " fear", "\n", *[PIECES[k]] * n, " joy"]
    steps = [dict(token=t, logprob=-0.1, top_logprobs=[dict(token=t, logprob=-0.1)]) for t in names]
    text = " joy, fear\n" + "\ufffd" * n + " joy"
    answer = dict(
        choices=[dict(message=dict(content=text), logprobs=dict(content=steps), finish_reason="length")]
    )
    with served(lambda asked: (200, GOOD if asked == 1 else answer)) as server:
        engine = engine_at(server)
        (got,) = engine.generate([engine.encode(QUESTION)], 12, ["\n"])
        assert got.text == " joy, fear" and got.finish_reason == "stop" and len(got.token_ids) == 4
