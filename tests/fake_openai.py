"""An OpenAI-compatible server of our own, with the habits of the real ones to be switched on."""

import base64
import random

import numpy as np
from fake_http import FakeServer, Reply
from fake_ollama import word_vector


class FakeOpenAI(FakeServer):
    """Serves one model, ``vector(text)``; see the attributes for what it refuses and how it answers."""

    def __init__(self, *, model=None, vector=word_vector, key=None, prefix="/v1"):
        super().__init__()
        self.model = model
        self.vector = vector
        self.key = key
        self.prefix = prefix
        self.knows_base64 = True
        self.refuses_base64 = False
        self.cuts_dimensions = True
        self.refuses_dimensions = False
        self.most_texts = 2048
        self.most_words = 512
        self.cuts_silently = False
        self.shuffles = False
        self.refuses = {}
        self.told_context = None

    def may_fail(self, asked):
        return asked.path == f"{self.prefix}/embeddings"

    def spoil(self, reply, change):
        if reply.status != 200:
            return reply
        rows = change([_numbers(entry["embedding"]) for entry in reply.body["data"]])
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        return Reply(200, {**reply.body, "data": data})

    def answer(self, asked):
        if self.key is not None and asked.headers.get("authorization") != f"Bearer {self.key}":
            said = f"Incorrect API key provided: {asked.headers.get('authorization')}"
            return Reply(401, {"error": {"message": said, "code": "invalid_api_key"}})
        if (asked.method, asked.path) == ("GET", f"{self.prefix}/models"):
            entry = {"id": self.model or "static", "object": "model"}
            return Reply(200, {"data": [entry | ({"max_model_len": self.told_context} if self.told_context else {})]})
        if (asked.method, asked.path) != ("POST", f"{self.prefix}/embeddings"):
            return Reply(404, {"detail": "Not Found"})
        return self.embed(asked.body)

    def refusal(self, body, texts):
        """Return the answer to what this server does not do, or ``None``."""
        said = None
        if self.model is not None and body["model"] != self.model:
            return Reply(404, {"error": {"message": f"The model `{body['model']}` does not exist"}})
        if len(texts) > self.most_texts:
            return Reply(413, {"error": f"batch size {len(texts)} > maximum allowed batch size {self.most_texts}"})
        if self.refuses_dimensions and "dimensions" in body:
            said = (
                "Model does not support matryoshka representation, changing output dimensions will lead to poor results"
            )
        if self.refuses_base64 and body.get("encoding_format") == "base64":
            said = "encoding_format must be float"
        for text in texts:
            said = next((words for part, words in self.refuses.items() if part in text), said)
            if len(text.split()) > self.most_words and not self.cuts_silently:
                said = "input is too large to process. increase the physical batch size"
        return None if said is None else Reply(400, {"error": {"message": said, "type": "invalid_request_error"}})

    def embed(self, body):
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        refusal = self.refusal(body, texts)
        if refusal is not None:
            return refusal
        data = []
        for index, text in enumerate(texts):
            words = text.split(" ")
            row = self.vector(" ".join(words[: self.most_words]) if self.cuts_silently else text)
            row = row[: body.get("dimensions", len(row))] if self.cuts_dimensions else row
            if body.get("encoding_format") == "base64" and self.knows_base64:
                row = base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()
            data.append({"object": "embedding", "index": index, "embedding": row})
        if self.shuffles:
            random.Random(len(data)).shuffle(data)
        return Reply(200, {"object": "list", "data": data, "model": "whatever.gguf", "usage": {"prompt_tokens": 7}})


def _numbers(embedding):
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").tolist()
    return embedding
