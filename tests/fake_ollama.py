"""An Ollama of our own, strict where the real one is: what it answers is taken from its source (0.33), not invented.

It checks what the real one checks and refuses what that refuses, with the same statuses and words: the unit of a
duration, the type of the input, the length of a text, the Host header, a name without a model.
"""

import hashlib
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from fake_http import FakeServer, Reply

_UNIT = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+|[+-]?0")


@lru_cache(maxsize=50_000)
def _direction(word, dim, salt):
    seed = int.from_bytes(hashlib.blake2b(f"{salt}/{word}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dim)


def word_vector(text, dim=32, salt=""):
    """Return a unit vector that depends on the text, its words and their places; the same in every process."""
    words = text.split() or [text]
    total = sum(_direction(word, dim, salt) for word in words) + 0.5 * _direction(text, dim, salt)
    return (total / np.linalg.norm(total)).astype(np.float32).tolist()


@dataclass
class FakeModel:
    """A model on the fake server; a text that holds a key of ``refuses`` gets that status, with the words."""

    dim: int = 32
    context: int = 2048
    digest: str = "sha256:" + "a" * 64
    vector: object = None
    salt: str = ""
    matryoshka: bool = True
    remote_host: str | None = None
    completion: bool = False
    refuses: dict = field(default_factory=dict)
    ram: int = 300_000_000
    vram: int = 0
    disk: int = 45_000_000
    parameters: int = 22_565_376

    def row(self, text):
        if self.vector is not None:
            return [float(number) for number in self.vector(text)]
        return word_vector(text, self.dim, self.salt)

    def tokens(self, text):
        return max(len(text.split()), (len(text) + 7) // 8)


class FakeOllama(FakeServer):
    """Installed models by full name, such as ``tiny:latest``."""

    def __init__(self, models=None, *, version="0.33.0", key=None, has_embed=True):
        super().__init__()
        self.models = models if models is not None else {"tiny:latest": FakeModel()}
        self.version = version
        self.key = key
        self.has_embed = has_embed
        self.loaded = {}
        self.loads = []
        self.ignores_dimensions = False
        self.unloads_when = threading.Event()
        self.unloads_when.set()

    def spoil(self, reply, change):
        if reply.status != 200:
            return reply
        return Reply(reply.status, {**reply.body, "embeddings": change(reply.body["embeddings"])})

    def may_fail(self, asked):
        return asked.path == "/api/embed"

    def answer(self, asked):
        refusal = self.refuse(asked)
        if refusal is not None:
            return refusal
        route = {
            ("GET", "/api/version"): self.get_version,
            ("GET", "/api/tags"): self.get_tags,
            ("GET", "/api/ps"): self.get_ps,
            ("POST", "/api/show"): self.post_show,
            ("POST", "/api/generate"): self.post_generate,
            ("POST", "/api/embed"): self.post_embed if self.has_embed else None,
        }.get((asked.method, asked.path))
        if route is None:
            return Reply(404, b"404 page not found")
        if asked.method == "GET":
            return route()
        if not isinstance(asked.body, dict):
            return Reply(400, {"error": "missing request body" if asked.body is None else "invalid character"})
        return route(asked.body)

    def refuse(self, asked):
        host = asked.headers.get("host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            return Reply(403)
        if self.key is not None and asked.headers.get("authorization") != f"Bearer {self.key}":
            return Reply(401, {"error": f"unauthorized: {asked.headers.get('authorization')}"})
        return None

    def find(self, name):
        short = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
        full = short if ":" in short.rpartition("/")[2] else f"{short}:latest"
        return next(((key, model) for key, model in self.models.items() if key.lower() == full.lower()), (None, None))

    def get_version(self):
        return Reply(200, {"version": self.version})

    def get_tags(self):
        return Reply(
            200,
            {
                "models": [
                    {"name": name, "model": name, "size": model.disk, "digest": model.digest.removeprefix("sha256:")}
                    | ({"remote_host": model.remote_host} if model.remote_host else {})
                    for name, model in self.models.items()
                ]
            },
        )

    def get_ps(self):
        with self.lock:
            now = time.time()
            self.loaded = {name: end for name, end in self.loaded.items() if end is None or end > now}
            running = dict(self.loaded)
        forever = "2318-05-01T12:00:00.123456789+02:00"
        return Reply(
            200,
            {
                "models": [
                    {
                        "name": name,
                        "model": name,
                        "size": self.models[name].ram + self.models[name].vram,
                        "digest": self.models[name].digest,
                        "details": {"family": "bert"},
                        "expires_at": forever if end is None else _rfc3339(end),
                    }
                    | ({"size_vram": self.models[name].vram} if self.models[name].vram else {})
                    for name, end in running.items()
                ]
            },
        )

    def post_show(self, body):
        name, model = self.find(body.get("model", ""))
        if name is None:
            return Reply(404, {"error": f"model '{body.get('model')}' not found"})
        return Reply(
            200,
            {
                "details": {"family": "bert", "quantization_level": "F16"},
                "model_info": {
                    "general.architecture": "bert",
                    "general.parameter_count": model.parameters,
                    "bert.context_length": model.context,
                    "bert.embedding_length": model.dim,
                },
                "capabilities": ["completion"] if model.completion else ["embedding"],
            },
        )

    def post_generate(self, body):
        name, model = self.find(body.get("model", ""))
        if name is None:
            return Reply(404, {"error": f"model '{body.get('model')}' not found"})
        if body.get("keep_alive") == 0 and not body.get("prompt"):
            threading.Thread(target=self._unload, args=(name,), daemon=True).start()
            return Reply(200, {"model": body["model"], "response": "", "done": True, "done_reason": "unload"})
        if not model.completion:
            return Reply(400, {"error": f'"{body["model"]}" does not support generate'})
        return Reply(200, {"model": body["model"], "response": "", "done": True})

    def _unload(self, name):
        self.unloads_when.wait(30)
        with self.lock:
            self.loaded.pop(name, None)

    def post_embed(self, body):
        texts = body.get("input")
        keep, problem = _keep_alive(body.get("keep_alive"))
        if problem:
            return Reply(400, {"error": problem})
        if isinstance(texts, str):
            texts = [texts] if texts else []
        if not (texts is None or (isinstance(texts, list) and all(isinstance(text, str) for text in texts))):
            return Reply(400, {"error": "invalid input type"})
        name, model = self.find(body.get("model") or "")
        if name is None:
            return Reply(404, {"error": f'model "{body.get("model")}" not found, try pulling it first'})
        self._load(name, keep, body.get("options"))
        if not texts:
            return Reply(200, {"model": body["model"], "embeddings": []})
        return self._vectors(body, model, texts)

    def _load(self, name, keep, options):
        with self.lock:
            now = time.time()
            alive = name in self.loaded and (self.loaded[name] is None or self.loaded[name] > now)
            last = next((used for loaded, used in reversed(self.loads) if loaded == name), None)
            if not alive or last != options:
                self.loads.append((name, options))
            self.loaded[name] = None if keep is None else now + keep

    def _vectors(self, body, model, texts):
        rows = []
        for text in texts:
            refusal = next((answer for part, answer in model.refuses.items() if part in text), None)
            if refusal is not None and refusal[0] != 200:
                return Reply(refusal[0], {"error": refusal[1]})
            if model.tokens(text) > model.context and not body.get("truncate", True):
                return Reply(400, {"error": "the input length exceeds the context length"})
            seen = text[: model.context * 8]
            row = model.row(seen) if refusal is None else refusal[1](model.dim)
            wanted = body.get("dimensions") or 0
            if 0 < wanted < model.dim and not self.ignores_dimensions:
                cut = np.asarray(row[:wanted])
                row = (cut / (np.linalg.norm(cut) or 1.0)).astype(np.float32).tolist()
            rows.append(row)
        answer = {"model": body["model"], "embeddings": rows, "total_duration": 5_000_000}
        return Reply(200, answer | {"prompt_eval_count": sum(map(model.tokens, texts))})


def _keep_alive(value):
    """Return the seconds (``None``: for ever) and the words of the refusal, if it is one."""
    if value is None:
        return 300.0, None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0.0, "invalid keep_alive"
    if isinstance(value, str):
        if not _UNIT.fullmatch(value):
            return 0.0, f'time: missing unit in duration "{value}"'
        units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
        parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", value)
        value = sum(float(number) * units[unit] for number, unit in parts) * (-1 if value[0] == "-" else 1)
    return (None if value < 0 else float(value)), None


def _rfc3339(stamp):
    moment = datetime.fromtimestamp(stamp, UTC) + timedelta(0)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}789Z"
