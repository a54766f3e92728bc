"""``python -m omnimemory`` is the same as ``omnimemory``."""

from __future__ import annotations

from omnimemory.cli import main

if __name__ == "__main__":
    main()
