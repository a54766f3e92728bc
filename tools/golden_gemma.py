"""``python -m tools.golden_gemma``: what sentence-transformers computes with the tiny EmbeddingGemma, for the tests.

The whole model is asked, with its prompts, its pooling and its dense layers. Needs torch and sentence-transformers,
which nothing else here does. The result goes to ``tests/golden_gemma.npz``: for float32 and for bfloat16 weights, both
computed in float32, and for documents and queries the vectors of ``GEMMA_TEXTS``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.tiny_gemma import GEMMA_TEXTS, write_tiny_gemma

__all__ = ["main"]

_TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden_gemma.npz"


def main() -> None:
    """Compute everything and write the file."""
    found: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        for kind in ("F32", "BF16"):
            found |= _asked(write_tiny_gemma(Path(work, kind), kind=kind), kind)
    np.savez_compressed(_TARGET, allow_pickle=False, **found)
    print(f"{_TARGET}: {', '.join(f'{name} {rows.shape}' for name, rows in found.items())}")


def _asked(folder: Path, kind: str) -> dict[str, NDArray[Any]]:
    import torch  # noqa: PLC0415 - not needed by the tests
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - as above

    given = {"dtype": torch.float32, "attn_implementation": "eager"}
    model: Any = SentenceTransformer(str(folder), device="cpu", model_kwargs=given)
    model = model.to(torch.float32)
    texts = list(GEMMA_TEXTS)
    lengths = [len(ids) for ids in model.tokenizer(texts)["input_ids"]]
    print(f"{kind}: {lengths} tokens, window {model[0].auto_model.config.sliding_window}")
    return {
        f"{kind}-document": model.encode_document(texts).astype(np.float32),
        f"{kind}-query": model.encode_query(texts).astype(np.float32),
    }


if __name__ == "__main__":
    main()
