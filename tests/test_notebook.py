"""Notebooks: cells as text, and errors that name the place."""

from __future__ import annotations

import json

import pytest
from format_cases import outline, parsed

from omnimemory.errors import SourceError
from omnimemory.sources.formats import SkippedError


def notebook(*cells: tuple[str, str | list[str]], **metadata: object) -> str:
    rows = [{"cell_type": kind, "source": source, "outputs": [{"text": "OUTPUT"}]} for kind, source in cells]
    return json.dumps({"cells": rows, "metadata": metadata, "nbformat": 4})


def test_notebooks_give_their_cells_and_no_outputs():
    text = notebook(
        ("markdown", ["# Title\n", "words"]),
        ("code", "import os\n# not a heading"),
        ("code", ""),
        ("markdown", "## Part\nmore"),
        ("raw", "raw"),
        kernelspec={"language": "python"},
    )
    document = parsed("a.ipynb", text)
    assert document.text == "# Title\nwords\n\nimport os\n# not a heading\n\n## Part\nmore\n\nraw"
    assert outline(document) == [(1, "Title"), (2, "Part")]
    assert document.metadata == {"language": "python"}
    assert document.format == "notebook"


def test_notebooks_of_format_3_are_read_too():
    old = {
        "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}, {"cell_type": "markdown", "source": "y"}]}]
    }
    assert parsed("a.ipynb", json.dumps(old)).text == "x = 1\n\ny"


def test_lone_surrogates_and_nuls_in_a_notebook_are_replaced():
    text = '{"cells": [{"cell_type": "markdown", "source": "# a\\ud800b\\u0000c"}]}'
    document = parsed("a.ipynb", text)
    assert document.text == "# a\ufffdb\ufffdc"
    assert document.headings[0].title == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cells": [\n{"x": }]}', r"a\.ipynb is not valid JSON at line 2, column 7"),
        ("[" * 200_000, "nested too deeply"),
        ("[1, 2]", "no list of cells"),
        ('{"cells": 5}', "no list of cells"),
        ('{"cells": [], "x": ' + "9" * 5000 + "}", "oversized"),
    ],
)
def test_what_is_no_notebook_is_an_error_that_names_the_place(text, message):
    with pytest.raises(SourceError, match=message) as caught:
        parsed("a.ipynb", text)
    assert not isinstance(caught.value, SkippedError)


@pytest.mark.parametrize("cells", ['[1, null, "x"]', '[{"source": 5}]', '[{"source": [1, null]}]', "[]"])
def test_a_notebook_without_text_is_skipped(cells):
    with pytest.raises(SkippedError, match="no text"):
        parsed("a.ipynb", f'{{"cells": {cells}, "metadata": 7}}')
