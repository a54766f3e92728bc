"""What the peers need before they can run: their packages, and the model where they look for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["imports", "write_chroma_files"]


def imports(python: str, module: str) -> bool:
    """Return whether a Python can import the module."""
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def write_chroma_files(model: Path, home: Path) -> None:
    """Put below ``home`` what Chroma's default embedding function would download: a graph of ours, of this model."""
    from tools.ready_model import write_ready_graph

    folder = home / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
    write_ready_graph(model, folder / "model.onnx", pooled=False)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(model / name, folder / name)
    for name in ("special_tokens_map.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_text("{}\n", encoding="utf-8")  # it looks whether they exist, and reads none
