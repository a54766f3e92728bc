"""After twenty batches of a real model, what is predicted is what fresh processes are seen to need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def child(minilm, file, seed, how) -> list[tuple[int, int, int]]:
    arguments = [str(minilm.folder.parent), str(file), str(seed), how]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("footprint_child.py"), *arguments],
        cwd=ROOT,
        env={"HOME": str(file.parent), "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_learned_footprints_are_close_to_the_peaks_of_other_processes(minilm, tmp_path):
    file = tmp_path / "learned.sqlite3"
    estimated = child(minilm, file, 1, "learn")
    watched = [batch for seed in (2, 3) for batch in child(minilm, file, seed, "watch")]
    errors = sorted(abs(fit - peak) / peak for _, peak, fit in watched)
    # Measured: within 9 % for 95 of 100 on a quiet machine, 15 % beside other tests.
    assert errors[len(errors) // 2] <= 0.15, errors
    assert errors[int(0.95 * len(errors)) - 1] <= 0.25, errors
    before = sorted(abs(fit - peak) / peak for _, peak, fit in estimated)
    assert errors[len(errors) // 2] < before[len(before) // 2] / 2, "the estimates were as good"
