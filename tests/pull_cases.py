"""The card of a tiny model, and a byte that is not what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from omnimemory.embedders.models import ModelCard

NAMES = ("model.safetensors", "tokenizer.json", "config.json", "1_Pooling/config.json")


def card_of(origin: Path, **more: Any) -> ModelCard:
    files = {name: hashlib.sha256((origin / name).read_bytes()).hexdigest() for name in NAMES}
    return ModelCard("tiny", "onnx", 64, 1000, "MIT", files=files, **more)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
