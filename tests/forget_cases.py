"""What the tests of forgetting share: words that stand nowhere else, files of a user, and where bytes are found."""

import json
import random
import string
import subprocess
import sys
from functools import lru_cache
from zlib import crc32

import numpy as np

from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.memory import Memory


def marker(seed):
    """Return a word that no text and no file holds by chance, and that no stemmer shortens."""
    letters = random.Random(seed).choices(string.ascii_lowercase, k=16)
    return "zq" + "".join(letters) + "x"


LOOK = """
import json, sys
from pathlib import Path
root, needles = Path(sys.argv[1]), [[bytes.fromhex(one) for one in some] for some in json.load(sys.stdin)]
files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
lower = {name: content.lower() for name, content in files.items()}
print(json.dumps([[n for n in files if any(x in files[n] or x in lower[n] for x in some)] for some in needles]))
"""


def files_with(root, needles):
    """Return for each list of byte strings the files below ``root`` that hold one of them, in capitals or not.

    Another process looks: closing a file that SQLite has open would free the locks of this one.
    """
    asked = json.dumps([[one.hex() for one in some] for some in needles])
    command = [sys.executable, "-I", "-S", "-c", LOOK, str(root)]
    return json.loads(subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout)


def holders(root, *words, but=()):
    """Return the files below ``root`` that hold one of these words, or what is left of it in an index.

    An index of words may leave out the beginning that one shares with its neighbour, so the middle is looked for.
    """
    needles = [word[4:14].encode(code) for word in words for code in ("utf-8", "utf-16-le", "utf-16-be")]
    (found,) = files_with(root, [needles])
    return [name for name in found if not name.startswith(tuple(but))]


def stamped(*commands, first=1_700_000_000):
    """Return a bash history with times, a minute apart."""
    return "".join(f"#{first + 60 * n}\n{text}\n" for n, text in enumerate(commands))


def texts(memory):
    """Return the texts of all chunks and all commands that are stored."""
    rows = memory.store.catalog.rows("SELECT text FROM chunks UNION ALL SELECT text FROM commands ORDER BY 1")
    return [text for (text,) in rows]


def events(memory):
    """Return (command, time) of all events."""
    return memory.store.catalog.rows(
        "SELECT c.text, e.timestamp FROM events e JOIN commands c ON c.id = e.command_row ORDER BY e.timestamp, 1"
    )


class WordEmbedder(StaticEmbedder):
    """Vectors of the words in a text, without the weights of a model."""

    def embed(self, texts, role):
        rows = [
            sum((_vector_of(word, self.dim) for word in text.casefold().split()), _vector_of("", self.dim))
            for text in texts
        ]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


@lru_cache(maxsize=4096)
def _vector_of(word, dim):
    return np.random.default_rng(crc32(word.encode())).normal(size=dim)


def quick(folder, **values):
    """Open a memory in a folder, without model and index."""
    paths = {"store.path": folder / "store", "cache.path": folder / "cache", "index.enabled": False}
    return Memory(settings=Settings().with_values({**paths, **values}), embedder=WordEmbedder(256))
