"Servers that say what cannot be, hang, or change: one line with the server's name, or a warning and a count."
import json
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlcllm.openai_engine import load_openai, _steps

WORD = " joy"


def listed(values, written=WORD, p=None, text=None, **more):
    "An answer in chat form: one token, and a list"
    top = [dict(token=t, logprob=v) for t, v in values]
    one = dict(token=written, logprob=dict(values)[written] if p is None else p, top_logprobs=top)
    return dict(choices=[dict(message=dict(content=written if text is None else text), logprobs=dict(content=[one]), finish_reason="length", **more)], usage=dict(prompt_tokens=3, completion_tokens=1))


GOOD = listed([(WORD, -.1), (" fear", -3.), (" anger", -4.)])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self): self.send(200, self.server.models)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        answer = self.server.answer
        self.send(*(answer(self.server.asked) if callable(answer) else answer))

    def send(self, status, body, headers=(), slowly=0):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in headers: self.send_header(k, v)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for k in range(len(data) if slowly else 1):
            try: self.wfile.write(data[k:k + 1] if slowly else data)
            except OSError: return
            time.sleep(slowly)


@contextmanager
def served(*answer, models={}):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.asked, server.models = True, 0, models
    server.answer = answer[0] if callable(answer[0]) else answer
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()


def engine_at(server, **more):
    at = dict(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", tokenizer="tiny", cache=False, api="chat", retries=0)
    return load_openai("tiny", at | more)


def ask(engine): return engine.generate([engine.encode("Say:")], 1)


IMPOSSIBLE = {
    "twenty likely tokens": listed([(f" {chr(97 + k)}", -.2) for k in range(20)], " a"), "two certain ones": listed([(WORD, 0.), (" fear", 0.)]),
    "base 10": listed([(WORD, -.2), (" fear", -.6), (" anger", -.9)]), "a probability": listed([(WORD, .87)]), "null": listed([(WORD, None)]), "nan": listed([(WORD, float("nan"))]), "a text": listed([(WORD, "-.1")]),
    "no choices": dict(choices=[]), "choices null": dict(choices=None), "pairs": dict(choices=[dict(logprobs=dict(tokens=["a"], token_logprobs=[-.1], top_logprobs=[[["a", -.1]]]))]),
    "unequal": dict(choices=[dict(logprobs=dict(tokens=["a", "b"], token_logprobs=[-.1], top_logprobs=[{"a": -.1}]))]), "a number for a choice": dict(choices=[3]),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_is_one_line_with_the_server(name):
    with pytest.raises(ValueError) as error: _steps(IMPOSSIBLE[name])
    assert "\n" not in str(error.value)
    for api in ("chat", None):
        with served(200, IMPOSSIBLE[name]) as server:
            with pytest.raises(ValueError, match="http://127.0.0.1") as error: ask(engine_at(server, api=api))
            assert "\n" not in str(error.value) and "zip()" not in str(error.value)


def test_what_can_be_is_read():
    for values in ([(WORD, 0.)], [(WORD, 0.), (" fear", -9999.)], [(WORD, -.7), (" fear", -.7)], [(WORD, -.1), (" fear", -float("inf"))]):
        assert _steps(listed(values))
    with served(200, GOOD) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(engine_at(server))[0].text == WORD


REPLIES = {
    "no credits": ((200, dict(error=dict(message="no credits left, key sk-abcdefghijklmnopqrstuvwxyz"))), "no credits left"), "a page": ((200, b"<html>hello</html>"), "HTML"), "a list": ((200, []), "a list and no object"), "null": ((200, b"null"), "null and no object"),
    "cut off": ((200, b'{"choices": [{"index"'), "cut off"), "deep": ((200, b"[" * 100_000), "nested too deep"), "payment": ((402, dict(error=dict(message="pay"))), "no credit left"), "forbidden": ((403, dict(error=dict(message="no"))), "may not use"), "broken": ((500, dict(error=dict(message="boom"))), "the server itself fails"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_a_server_says_instead_of_an_answer(name):
    reply, says = REPLIES[name]
    with served(*reply) as server, pytest.raises(ValueError, match="http://127.0.0.1") as error: ask(engine_at(server))
    assert says in str(error.value) and "\n" not in str(error.value) and "sk-abcdef" not in str(error.value)


@pytest.mark.parametrize("usage", [None, "x", [], dict(prompt_tokens="many", completion_tokens=None), dict(prompt_tokens=-1)])
def test_usage_that_is_none_counts_as_the_most_that_it_can_be(usage):
    with served(200, GOOD | dict(usage=usage)) as server:
        engine = engine_at(server)
        ask(engine)
        assert engine.stats["tokens_sent"] + engine.stats["tokens_out"] >= 2 * len(engine.encode("Say:"))


@pytest.mark.parametrize("models", [b"[" * 100_000, b"{", [], None, dict(data="x")], ids=["deep", "cut off", "list", "null", "text"])
def test_models_in_a_strange_form_say_nothing(models):
    with served(200, GOOD, models=models) as server: assert ask(engine_at(server))[0].text == WORD


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("answer, counted", [
    (listed([(" fear", -.2), (" anger", -3.), (" no", -4.), (WORD, -5.)]), True), (listed([(WORD, -.1), (" fear", -4.)], p=-3.1), True), (listed([(WORD, -.7), (" fear", -.695)]), False), (GOOD, False)], ids=["fourth", "other value", "a tie", "best"])
def test_draws_are_noticed(answer, counted):
    with served(200, answer) as server:
        engine = engine_at(server)
        ask(engine)
        assert (engine.stats["tokens_not_greedy"] > 0) == counted == any("temperature=0" in l for l in engine.limits)


def test_missing_parts_are_refused():
    with served(200, listed([(WORD, -.1)], text=" fear, joy")) as server, pytest.raises(ValueError, match="part of the answer are missing"): ask(engine_at(server))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("reason, ends", [("stop", "eos"), (None, "eos"), ("length", "length"), ("content_filter", "length"), ("tool_calls", "length"), ("function_call", "length")])
def test_other_ends_are_read_as_cut_off(reason, ends):
    answer = json.loads(json.dumps(GOOD))
    answer["choices"][0]["finish_reason"] = reason
    with served(200, answer) as server:
        engine = engine_at(server)
        got, = engine.generate([engine.encode("Say:")], 5)
        assert got.finish_reason == ends and engine.stats["answers_ended_otherwise"] == (ends == "length" and reason != "length")


def test_a_change_during_a_run_is_said_once(tmp_path):
    with served(lambda n: (200, GOOD | dict(system_fingerprint="a" if n < 3 else "b"))) as server:
        engine = engine_at(server, cache=str(tmp_path / "kept.sqlite"), concurrency=1)
        prompts = [engine.encode(t) for t in ("one", "two", "three", "four")]
        with pytest.warns(UserWarning, match="has changed while it was asked") as said: engine.generate(prompts, 1)
        assert sum("has changed" in str(w.message) for w in said) == 1 and sum("has changed" in l for l in engine.limits) == 1
        n = server.asked
        server.answer = lambda n: (200, GOOD | dict(system_fingerprint="a"))
        again = engine_at(server, cache=str(tmp_path / "kept.sqlite"))
        again.generate(prompts, 1)
        assert again.stats["cached_answers"] == 1 and server.asked == n + 4


def test_a_request_has_an_end():
    with served(200, GOOD, (), .2) as server:
        began = time.monotonic()
        with pytest.raises(ValueError, match="does not answer in time"): ask(engine_at(server, timeout=1.))
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("wait, timeout", [("30", 5.), ("1", 1.5)])
def test_waits_are_said_and_have_an_end(wait, timeout):
    with served(503, dict(error=dict(message="busy")), [("Retry-After", wait)]) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        began = time.monotonic()
        with pytest.raises(ValueError, match="the server itself fails"): ask(engine_at(server, timeout=timeout, retries=5))
        assert time.monotonic() - began < 8 and sum("asks to wait for 1 s" in str(w.message) for w in said) == (wait == "1")
