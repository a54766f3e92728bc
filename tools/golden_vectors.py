"""``python -m tools.golden_vectors MINILM``: what torch and sentence-transformers compute, kept for the tests.

MINILM is the folder of all-MiniLM-L6-v2. The published model is asked through sentence-transformers; the tiny encoders
(``tiny_encoders.py``) through transformers, with pooling as sentence-transformers does it. Needs torch and
sentence-transformers, which nothing else here does. The result goes to ``tests/golden_vectors.npz``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.tiny_encoders import KINDS, write_tiny_encoder

__all__ = ["TEXTS", "TINY_TEXTS", "main"]

TEXTS = (
    "git commit --amend --no-edit",
    "The quick brown fox jumps over the lazy dog.",
    "rm -rf build/ && mkdir build",
    "Überraschung: 東京 🦄 naïve café",
    "a",
    "find . -name '*.py' -mtime -7 -print0 | xargs -0 grep -l TODO",
    "SELECT name\nFROM users\nWHERE id = 1;",
    "   leading   and inner    spaces   ",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "https://example.org/path?query=1#fragment",
    "kubectl get pods -n kube-system -o wide --sort-by=.metadata.creationTimestamp",
    "Return the k best hits for a question, best first. " * 3,
    "The catalog is the one truth; the index is derived from it and can be made anew at any time. " * 6,
    "word " * 200,
    "x" * 99,
    "1234567890 0.5 1e-9 0xdeadbeef",
)
"""Texts of 3 to 222 tokens; the model reads up to 256."""

TINY_TEXTS = ("git commit", "undo the last commit", "a", "who wrote the line", "docker run python test " * 5)
"""Texts of at most 32 tokens for the tiny encoders, of different lengths so that some are padded."""

_TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden_vectors.npz"


def main(folder: str) -> None:
    """Compute everything and write the file."""
    found = {"minilm": _published(Path(folder))}
    with tempfile.TemporaryDirectory() as work:
        for kind in KINDS:
            found[kind] = _tiny(write_tiny_encoder(Path(work, kind), kind), kind)
    np.savez_compressed(_TARGET, allow_pickle=False, **found)
    print(f"{_TARGET}: {', '.join(f'{name} {rows.shape}' for name, rows in found.items())}")


def _published(folder: Path) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - not needed by the tests

    model: Any = SentenceTransformer(str(folder), device="cpu")
    rows: NDArray[np.float32] = model.encode(list(TEXTS))
    return rows.astype(np.float32)


def _tiny(folder: Path, kind: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415 - as above
    from tokenizers import Tokenizer  # noqa: PLC0415 - as above
    from transformers import AutoModel  # noqa: PLC0415 - as above

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=KINDS[kind].get("pad_token_id", 0))
    encodings = tokenizer.encode_batch(list(TINY_TEXTS))
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    model: Any = AutoModel.from_pretrained(str(folder), attn_implementation="eager").eval()
    given = {"input_ids": torch.tensor([encoding.ids for encoding in encodings]), "attention_mask": mask}
    if KINDS[kind]["model_type"] == "roberta":
        # It counts positions by leaving out the padding id, which the tokenizer here does not use for padding.
        given["position_ids"] = torch.arange(mask.shape[1])[None, :] + KINDS[kind]["pad_token_id"] + 1
    with torch.no_grad():
        states = model(**given).last_hidden_state
    weights = mask[..., None].float()
    pooled = states[:, 0] if kind.endswith("-cls") else (states * weights).sum(1) / weights.sum(1)
    rows: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return rows.astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1])
