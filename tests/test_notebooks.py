"""Every notebook runs from top to bottom, offline, without leaving anything behind in the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
for cell in notebook.cells:
    if cell.cell_type == "code":
        for output in cell.outputs:
            print(output.output_type, "".join(output.get("text", "")), output.get("data", {}).get("text/html", ""))
"""


def test_there_is_a_quickstart():
    assert "01_quickstart.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    # A kernel of this environment, whatever kernels the user has installed.
    kernel = [sys.executable, "-m", "ipykernel", "install", "--prefix", str(tmp_path / "jupyter"), "--name", "python3"]
    subprocess.run(kernel, check=True, capture_output=True)
    environment = {
        **os.environ,
        "JUPYTER_PATH": str(tmp_path / "jupyter" / "share" / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "<table>" in done.stdout
