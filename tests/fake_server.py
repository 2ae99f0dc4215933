"""A small OpenAI-compatible server over a bundled model, which can be made to fail: `python
tests/fake_server.py --mode plain --faults .2`.

Modes: full (as vLLM: token ids in, the ids asked for out), plain (text, 20 log-probabilities at most), silent
(plain, and ignores what it does not know), chat (chat completions only), llama-cpp (as llama-cpp-python:
fails at token ids, gives as many as asked for, in a table by the text of each token, in which the less
probable one of two with the same text stays), ollama (log-probabilities in chat completions only, refuses
more than 20).
Without log-probabilities: none (the field is null), absent (there is no field), unsupported (a request
that asks for them is refused), old-ollama (before 0.12.11: there is no field).
`most`: log-probabilities that it gives at most; with `strict` it refuses to be asked for more.
Naming: how tokens are named in what a text server says: text (the token's own), decoded (each token alone, so
that SentencePiece drops a leading blank), bytes (decoded, and the token's bytes beside it; without chat,
`bytes:\\xf0` where a token is no text), halved (the text, without halves of characters), said (decoded, and
the bytes of that text, as vLLM does), pieces (the tokenizer's own writing), bare (the text without a leading
blank), ids (token_id:N).
Faults, drawn by a seed: 429, 500, a cut connection, truncated JSON, ids that were not asked for. With
`--forward URL` it stands before another server and adds faults only.
"""

import argparse
import base64
import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


def bytes_of(tokenizer, i):
    "What token i writes, by the rules of byte-level BPE or of SentencePiece with byte fallback"
    piece = tokenizer.convert_ids_to_tokens(i)
    if i in tokenizer.added_tokens_decoder:
        return piece.encode()
    if "ByteLevel" not in repr(tokenizer.backend_tokenizer.decoder):
        return (
            bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.replace("\u2581", " ").encode()
        )
    plain = [b for b in range(256) if chr(b).isprintable() and chr(b) != " " and b != 173]
    moved = {chr(256 + k): b for k, b in enumerate(b for b in range(256) if b not in plain)}
    return bytes(moved[c] if c in moved else ord(c) for c in piece)


def token_name(tokenizer, i, naming, chat):
    "What a server calls token i: token, and bytes where it gives them"
    i, decoded = int(i), tokenizer.decode([int(i)])
    true = bytes_of(tokenizer, i)
    if naming == "ids":
        return dict(token=f"token_id:{i}")
    if naming == "pieces":
        return dict(token=tokenizer.convert_ids_to_tokens(i))
    if naming == "text":
        return dict(token=true.decode("utf-8", "replace"))
    if naming == "halved":
        return dict(token=true.decode("utf-8", "ignore"))
    if naming == "bare":
        return dict(token=true.decode("utf-8", "replace").removeprefix(" "))
    if naming == "said":
        return dict(token=decoded, bytes=list(decoded.encode()))
    if naming == "bytes" and chat:
        return dict(token=decoded, bytes=list(true))
    if naming == "bytes" and "\ufffd" in decoded:
        return dict(token="bytes:" + "".join(f"\\x{b:02x}" for b in true))
    return dict(token=true.decode("utf-8", "replace") if naming == "bytes" else decoded)


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        engine,
        mode="full",
        faults=0.0,
        seed=0,
        key="secret-key-123456",
        model="tiny",
        port=0,
        slow=0.0,
        forward=None,
        naming="text",
        card=None,
        fingerprint=None,
        redirect=None,
        most=20,
        strict=False,
    ):
        self.engine = engine
        self.mode = mode
        self.faults = faults
        self.rng = np.random.default_rng(seed)
        self.key = key
        self.model = model
        self.slow = slow
        self.forward = forward
        self.most, self.strict = (10**6 if mode == "llama-cpp" else most), strict or mode == "ollama"
        self.questions = []  # (chat, log-probabilities asked for, is the prompt a text?) of each request
        if mode == "llama-cpp":
            naming = "halved"
        if "ollama" in mode:
            naming, fingerprint = "said", "fp_ollama"
        self.naming, self.card, self.fingerprint, self.redirect, self.seen = (
            naming,
            card,
            fingerprint,
            redirect,
            [],
            # card: what /models says besides, or False for no /models; redirect: where everything is sent on
            # to;
            # seen: (path, headers) of each request
        )
        self.lock = threading.Lock()
        self.asked = Counter()
        self.answered = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.failed = Counter()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, cut=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if cut is None else cut))
        self.end_headers()
        self.wfile.write(data[:cut])

    def refuse(self, status, message, **more):
        self.send(status, dict(error=dict(message=message, **more)))

    def allowed(self):
        given, key = self.headers.get("Authorization", ""), self.server.key
        if given == f"Bearer {key}" or f"key={key}" in self.path.partition("?")[2]:
            return True
        if given.startswith("Basic ") and base64.b64decode(given[6:]).decode() == f"me:{key}":
            return True
        self.refuse(401, "Incorrect API key provided: " + self.headers.get("Authorization", "")[7:])

    def moved(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if not self.server.redirect:
            return False
        self.send_response(307)
        self.send_header("Location", self.server.redirect + self.path.removeprefix("/v1"))
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_GET(self):
        if self.moved() or not self.allowed():
            return
        if self.server.card is False:
            return self.refuse(404, "Not Found")
        self.send(
            200,
            dict(object="list", data=[dict(id=self.server.model, object="model") | (self.server.card or {})]),
        )

    def do_POST(self):
        s, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.moved() or not self.allowed():
            return
        with s.lock:
            s.in_flight += 1
            s.most_in_flight = max(s.most_in_flight, s.in_flight)
            s.asked[self.digest(body)] += 1
            fault = (
                s.rng.choice(["429", "500", "cut", "truncated", "wrong"])
                if s.rng.random() < s.faults
                else None
            )
        try:
            self.answer(body, fault)
        finally:
            with s.lock:
                s.in_flight -= 1

    def digest(self, body):
        return hashlib.sha256(
            json.dumps(
                [
                    body.get("prompt"),
                    body.get("messages"),
                    body.get("max_tokens"),
                    body.get("logprob_token_ids"),
                ]
            ).encode()
        ).hexdigest()

    def count(self, body):  # an answer that arrives whole
        with self.server.lock:
            self.server.answered[self.digest(body)] += 1

    def answer(self, body, fault):
        s = self.server
        if s.slow:
            import time

            time.sleep(s.slow)
        if fault:
            s.failed[fault] += 1
        if fault == "429":
            self.send_response(429)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "500":
            return self.refuse(500, "overloaded")
        if fault == "cut":
            self.close_connection = True
            return self.connection.close()
        if s.forward:
            return self.relay(body, fault)
        if body.get("model") != s.model:
            return self.refuse(
                404, f"The model `{body.get('model')}` does not exist.", code="model_not_found"
            )
        chat = self.path.split("?")[0].endswith("/chat/completions")
        if not chat and s.mode == "chat":
            return self.refuse(404, "This is a chat model and not supported in the v1/completions endpoint.")
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        n_asked = body.get("top_logprobs") if chat else body.get("logprobs")
        with s.lock:
            s.questions.append((chat, n_asked, isinstance(prompt, str)))
        if isinstance(prompt, list) and s.mode == "llama-cpp":
            return self.refuse(
                500, "2 validation errors for Request body -> prompt: Input should be a valid string"
            )
        if isinstance(prompt, list) and "ollama" in s.mode:
            kind = dict(type="invalid_request_error", param=None, code=None)
            place = (
                "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"
            )
            return self.refuse(400, place, **kind)
        if s.mode == "unsupported" and n_asked is not None:
            return self.refuse(400, "logprobs is not supported with this model", code="unsupported_value")
        if s.strict and n_asked > s.most and (chat or s.mode != "ollama"):
            return self.refuse(
                400, f"top_logprobs must be between 0 and {s.most}", type="invalid_request_error"
            )
        ids = prompt if isinstance(prompt, list) else s.engine.encode(prompt)
        n = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        if len(ids) + n > s.engine.max_length:
            return self.refuse(
                400,
                f"This model's maximum context length is {s.engine.max_length} tokens. However, you "
                f"requested {len(ids) + n} tokens.",
            )
        if any(i >= s.engine.model.config.vocab_size for i in body.get("logprob_token_ids") or ()):
            return self.refuse(400, "logprob_token_ids holds an id that is not in the model's vocabulary.")
        reply = self.reply(body, ids, n, chat, fault)
        if fault not in ("truncated", "wrong"):
            self.count(body)
        if fault == "truncated":
            data = json.dumps(reply)
            return self.send(200, reply, cut=len(data) // 2)
        self.send(200, reply)

    def relay(self, body, fault):  # ask the server behind this one
        request = urllib.request.Request(
            self.server.forward + self.path.removeprefix("/v1"),
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": self.headers["Authorization"]},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                reply = json.load(answer)
        except urllib.error.HTTPError as error:
            return self.send(error.code, json.loads(error.read() or b"{}"))
        if fault not in ("truncated", "wrong"):
            self.count(body)
        self.send(200, reply, cut=len(json.dumps(reply)) // 2 if fault in ("truncated", "wrong") else None)

    def reply(self, body, ids, n, chat, fault):
        s, full = self.server, self.server.mode == "full" and not chat
        watch = body.get("logprob_token_ids") if full else None
        vocabulary = list(range(s.engine.model.config.vocab_size))
        drawn = body.get("temperature") == 1
        with s.lock:
            if drawn:
                g = s.engine.sample([ids], 1, n, seed=body.get("seed") or 0)[0][0]
            else:
                g = s.engine.generate([ids], n, [], vocabulary)[0]
        naming = "ids" if full and body.get("return_tokens_as_token_ids") else s.naming

        def name(i):
            return token_name(s.engine.tokenizer, i, naming, chat)

        steps = []
        for z, total, token in () if drawn else zip(g.logits, g.logsumexp, g.token_ids):
            top = (
                watch
                if watch
                else np.argsort(-z)[
                    : min(s.most, body.get("top_logprobs") or body.get("logprobs") or 1)
                ].tolist()
            )
            if fault == "wrong" and watch:
                top = [(i + 1) % len(z) for i in top]
            steps.append(
                (
                    name(token),
                    float(z[token] - total),
                    [(name(i), float(z[i] - total)) for i in dict.fromkeys([*top, token])],
                )
            )
        written = len(g.token_ids)
        usage = dict(prompt_tokens=len(ids), completion_tokens=written, total_tokens=len(ids) + written)
        if chat:
            choice = dict(
                message=dict(role="assistant", content=g.text),
                logprobs=dict(
                    content=[
                        dict(t, logprob=p, top_logprobs=[dict(k, logprob=v) for k, v in top])
                        for t, p, top in steps
                    ]
                ),
            )
        else:
            choice = dict(
                text=g.text,
                logprobs=dict(
                    tokens=[t["token"] for t, *_ in steps],
                    token_logprobs=[p for _, p, _ in steps],
                    top_logprobs=[
                        {k["token"]: v for k, v in top} | ({t["token"]: p} if s.mode == "llama-cpp" else {})
                        for t, p, top in steps
                    ],
                ),
            )
        if s.mode == "none":
            choice["logprobs"] = None
        if s.mode in ("absent", "old-ollama") or s.mode == "ollama" and not chat:
            del choice["logprobs"]
        return dict(
            id="x",
            object="text_completion",
            created=0,
            model=s.model,
            system_fingerprint=s.fingerprint,
            choices=[choice | dict(index=0, finish_reason="stop" if g.finish_reason == "eos" else "length")],
            usage=usage,
        )


if __name__ == "__main__":
    from mlcllm.engines import load_engine

    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--mode", default="full")
    flags.add_argument("--faults", type=float, default=0.0)
    flags.add_argument("--port", type=int, default=8123)
    flags.add_argument("--key", default="none")
    flags.add_argument("--forward")
    args = flags.parse_args()
    server = FakeServer(
        None if args.forward else load_engine("tiny", gpu="cpu"),
        args.mode,
        args.faults,
        port=args.port,
        key=args.key,
        forward=args.forward,
    )
    print(server.url, flush=True)
    server.serve_forever()
