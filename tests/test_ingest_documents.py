"""Files and folders into the store: what a change embeds, what is forgotten, and that a death at any commit heals."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError
from omnimemory.ingest.clean_document import clean_document
from omnimemory.memory import Memory
from omnimemory.records import Document, Heading
from omnimemory.sources.redaction import Redactor

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def docs(tmp_path):
    """Return a function that writes files below a folder and returns it."""

    def write(name="docs", /, **files):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for stem, text in files.items():
            (folder / f"{stem}.md").write_text(text)
        return folder

    return write


def sources(memory):
    return {Path(uri).name for (uri,) in memory.store.catalog.rows("SELECT uri FROM sources WHERE kind = 'file'")}


def texts(memory):
    return [text for (text,) in memory.store.catalog.rows("SELECT text FROM chunks ORDER BY text")]


# -- roots


def test_a_file_is_not_taken_for_the_folder_of_files_with_longer_names(memory, tmp_path):
    (tmp_path / "b.md").write_text("one two three")
    (tmp_path / "b.md.txt").write_text("four five six")
    memory.ingest(tmp_path / "b.md", tmp_path / "b.md.txt")
    report = memory.ingest(tmp_path / "b.md", prune_all=True)
    assert (report.deleted, report.failures) == (0, ())
    assert sources(memory) == {"b.md", "b.md.txt"}


def test_forgetting_a_vanished_folder_leaves_its_namesake_alone(memory, docs):
    first, second = docs("docs", a="lighthouses"), docs("docs2", b="harbours")
    memory.ingest(first, second)
    (first / "a.md").unlink()
    first.rmdir()
    report = memory.ingest(first, prune_all=True)
    assert (report.deleted, report.failed) == (1, 0)
    assert sources(memory) == {"b.md"}


def test_a_file_that_was_given_by_name_and_vanished_can_be_forgotten(memory, docs):
    file = docs(a="lighthouses") / "a.md"
    memory.ingest(file)
    file.unlink()
    report = memory.ingest(file)
    assert (report.deleted, report.failed) == (0, 1)
    assert "--prune-all" in report.failures[-1].reason
    assert memory.ingest(file, prune_all=True).deleted == 1
    assert texts(memory) == []


def test_roots_that_overlap_are_read_once(memory, docs):
    top = docs(b="a file that stays")
    inner = docs("docs/inner", a="lighthouses and buoys", c="another one")
    first = memory.ingest(top, inner, inner / "a.md")
    assert (first.added, first.sources, first.embedded) == (3, 3, 3)
    (inner / "a.md").write_text("harbours and cranes")
    second = memory.ingest(inner, top)
    assert (second.added, second.deleted, second.sources) == (1, 1, 3)
    (inner / "a.md").unlink()
    assert memory.ingest(top, inner).deleted == 1


@pytest.mark.parametrize("how", ["hidden", "ignored", "too deep"])
def test_what_was_ingested_by_a_path_of_its_own_is_not_forgotten_with_the_folder_above(settings, docs, how):
    top = docs(top="the folder above")
    inner = top / {"hidden": ".inner", "ignored": "inner", "too deep": "inner"}[how]
    inner.mkdir()
    (inner / "own.md").write_text("ingested by a path of its own")
    if how == "ignored":
        (top / ".gitignore").write_text("inner/\n")
    with Memory(settings=settings.with_values({"documents.max_depth": 0 if how == "too deep" else 64})) as memory:
        memory.ingest(inner)
        assert memory.ingest(top).deleted == 0
        assert memory.ingest(top, inner).deleted == 0
        assert sources(memory) == {"top.md", "own.md"}
        (inner / "own.md").unlink()
        assert memory.ingest(top).deleted == 1


def test_a_file_that_is_ignored_from_now_on_is_forgotten(memory, docs):
    folder = docs(a="lighthouses", b="harbours")
    memory.ingest(folder)
    (folder / ".gitignore").write_text("b.md\n")
    assert memory.ingest(folder).deleted == 1
    assert sources(memory) == {"a.md"}


def test_a_file_that_holds_no_text_any_more_is_forgotten(settings, docs):
    folder = docs(emptied="one", binary="two", grown="three", kept="four")
    with Memory(settings=settings.with_values({"documents.max_bytes": 1000})) as memory:
        memory.ingest(folder, folder / "kept.md")
        (folder / "emptied.md").write_bytes(b"")
        (folder / "binary.md").write_bytes(bytes(range(256)))
        (folder / "grown.md").write_text("x " * 1000)
        report = memory.ingest(folder)
        assert (report.deleted, report.skipped, report.failed) == (3, 3, 0)
        assert texts(memory) == ["four"]
        (folder / "kept.md").write_bytes(b"")
        assert memory.ingest(folder / "kept.md").deleted == 1


def test_a_file_that_cannot_be_read_for_now_is_kept(memory, docs):
    folder = docs(a="lighthouses", b="harbours")
    notebook = folder / "n.ipynb"
    notebook.write_text('{"cells": [{"cell_type": "markdown", "source": "anchors"}]}')
    memory.ingest(folder)
    notebook.write_text('{"cells": [')
    report = memory.ingest(folder)
    assert (report.failed, report.deleted) == (1, 0)
    assert memory.search("anchors", mode="keyword")


def test_a_root_may_have_any_name(memory, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad-\xff"))
    folder.mkdir()
    (folder / "a.md").write_text("lighthouses")
    assert memory.ingest(folder).added == 1
    assert memory.ingest(folder).unchanged == 1
    (folder / "a.md").unlink()
    (folder / "b.md").write_text("harbours")
    assert memory.ingest(folder).deleted == 1


@pytest.mark.parametrize("path", ["", None, ["a", "b"], "a\0b", 7], ids=repr)
def test_what_is_no_path_is_an_error_that_says_so(memory, path):
    with pytest.raises(ConfigError, match="is no path"):
        memory.ingest(path)


def test_a_loop_of_links_and_an_unknown_user_are_told_not_raised(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert memory.ingest(tmp_path / "loop", "~nobody-of-that-name/x").failed == 2


def test_the_memorys_own_folders_are_no_documents(memory, docs, tmp_path):
    docs(a="lighthouses")
    report = memory.ingest(tmp_path)
    assert (report.added, report.skipped) == (1, 0)


def test_progress_counts_the_files_of_all_roots(memory, docs):
    seen = []
    memory.ingest(docs("one", a="a b c"), docs("two", b="d e f", c="g h i"), progress=seen.append)
    assert [(step.done, step.total) for step in seen if step.stage == "documents"] == [(0, 3), (1, 3), (2, 3), (3, 3)]


# -- what changed


def test_a_heading_that_became_one_without_a_word_changing_is_noticed(memory, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html><body><p>Harbour</p><p>Some text about boats and anchors.</p></body></html>")
    memory.ingest(page)
    page.write_text("<html><body><h1>Harbour</h1><p>Some text about boats and anchors.</p></body></html>")
    report = memory.ingest(page)
    assert (report.updated, report.embedded, report.added) == (1, 0, 0)
    assert memory.search("boats")[0].metadata["heading"] == "Harbour"


def test_headings_stay_with_their_text_when_a_secret_before_them_goes():
    text = f"See Install before Guide.\n{TOKEN}\n\n# Guide\n\nWords.\n\n# Install {TOKEN}\n\nMore.\n"
    headings = (Heading(text.index("# Guide"), 1, "Guide"), Heading(text.index("# Install"), 1, f"Install {TOKEN}"))
    clean, counts = clean_document(Document("a.md", text, "markdown", headings, {"title": TOKEN}), Redactor())
    assert counts.total() == 3
    assert TOKEN not in f"{clean}"
    assert [clean.text[heading.start :].split("\n")[0] for heading in clean.headings] == [
        "# Guide",
        "# Install [REDACTED:github-token]",
    ]


def test_a_heading_inside_of_a_secret_goes_with_it():
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "Ab1/" * 40 + "\n" + "Cd2+" * 40 + "\n-----END RSA PRIVATE KEY-----\n"
    text = f"{key}\n# After\n\nWords.\n"
    headings = (Heading(text.index("Cd2+"), 2, "Cd2+" * 40), Heading(text.index("# After"), 1, "After"))
    clean, _ = clean_document(Document("a.md", text, "markdown", headings), Redactor())
    assert [clean.text[heading.start :].split("\n")[0] for heading in clean.headings] == ["# After"]


def test_a_secret_in_front_matter_reaches_no_metadata(memory, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"---\ntitle: {TOKEN}\ntags: [boats, {TOKEN}]\n---\nSome text about boats.\n")
    assert memory.ingest(page).redacted >= 2
    assert TOKEN not in str(memory.store.catalog.rows("SELECT * FROM chunks"))


# -- deaths and races

KILLED = """
import os, sys
from contextlib import contextmanager
from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.memory import Memory
from omnimemory.storage.catalog import Catalog

store, cache, folder, when = sys.argv[1:5]
real, commits = Catalog.transaction, [0]

@contextmanager
def counted(self):
    with real(self) as sql:
        yield sql
        commits[0] += 1
        if commits[0] == int(when):
            os.kill(os.getpid(), 9)

Catalog.transaction = counted
values = {"store.path": store, "cache.path": cache, "index.enabled": False, "embedding.batch_size": 4}
with Memory(settings=Settings().with_values(values)) as memory:
    memory.ingest(folder)
"""


def export(memory):
    """Return all that an ingest of documents leaves, without the numbers that tell in which order it came."""
    catalog = memory.store.catalog
    return (
        sorted(
            catalog.rows(
                "SELECT chunk_id, uri, start_char, end_char, text, heading, metadata, pending, hex(vector) "
                "FROM chunks c JOIN sources s ON s.id = c.source_id "
                "JOIN vectors v ON v.item = c.id AND v.collection_id = ?",
                (memory.store.documents.collection.id,),
            )
        ),
        catalog.rows("SELECT uri, complete FROM sources ORDER BY uri"),
        catalog.value("SELECT count(*) FROM vectors"),
    )


@pytest.mark.parametrize("commit", range(1, 8))
def test_an_update_that_is_killed_at_any_commit_leaves_no_trace(settings, docs, tmp_path, commit):
    old = "\n\n".join(f"Paragraph {n} speaks of ship {n * 7 % 31} and of harbour {n}. " * 5 for n in range(12))
    new = "\n\n".join(f"Rewritten {n}: now it is about train {n * 5 % 37} at platform {n}. " * 5 for n in range(40))
    folder = docs(long=old, other="A file that stays.")
    with Memory(settings=settings) as memory:
        memory.ingest(folder)
        before = export(memory)
    (folder / "long.md").write_text(new)
    where = [str(settings.store.path), str(settings.cache.path), str(folder)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *where, str(commit)],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert killed.returncode == -9
    (folder / "long.md").write_text(old)  # what the store remembers of the file is true again, but for what is there
    with Memory(settings=settings) as memory:
        memory.ingest(folder)
        assert export(memory) == before


def test_a_version_that_another_process_read_meanwhile_is_sorted_out_by_the_next_run(memory, docs):
    file = docs(a="the first version") / "a.md"
    memory.ingest(file)
    file.write_text("the second version")

    def meddle(progress):
        if progress.done == progress.total == 1:  # the file was read and compared, and nothing is committed yet
            file.write_text("the third version")
            memory.ingest(file)
            file.write_text("the second version")

    memory.ingest(file, progress=meddle)
    memory.ingest(file)
    assert texts(memory) == ["the second version"]
    assert memory.ingest(file).unchanged == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("of the caller")], ids=["interrupt", "error"])
def test_a_progress_callback_that_raises_leaves_a_store_that_the_next_run_completes(settings, docs, error):
    folder = docs(**{f"n{n}": f"document {n} about {n * 7 % 13}" for n in range(60)})

    def raising(progress):
        if progress.done == 40:
            raise error

    with Memory(settings=settings.with_values({"embedding.batch_size": 10})) as memory:
        with pytest.raises(error if isinstance(error, type) else type(error)):
            memory.ingest(folder, progress=raising)
        kept = len(texts(memory))
        assert 30 <= kept < 60
        rest = memory.ingest(folder)
        assert (rest.added, rest.unchanged) == (60 - kept, kept)


# -- laws

WORDS = ["harbour", "ship", "anchor", "crane", "rope", "sail", "tide", "buoy", "light", "fog"]


class Staying(StaticEmbedder):
    """The static model, loaded once for all examples."""

    def close(self):
        pass


@st.composite
def edits(draw):
    """A few rounds of edits of three files: paragraphs put in, taken out, repeated; files emptied, gone, back."""
    paragraph = st.lists(st.sampled_from(WORDS), min_size=3, max_size=30).map(" ".join)
    heading = st.sampled_from(WORDS).map("# {}".format)
    blocks = st.lists(st.one_of(paragraph, heading, st.just("The same sentence every time.")), max_size=6)
    texts = st.one_of(st.none(), blocks.map("\n\n".join))
    return draw(st.lists(st.tuples(texts, texts, texts), min_size=2, max_size=4))


@pytest.fixture(scope="module")
def model():
    return Staying()


@given(rounds=edits())
@hypothesis_settings(max_examples=6)
def test_however_files_change_the_store_is_as_if_made_of_them_anew_and_the_counts_add_up(model, rounds):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "docs")
        folder.mkdir()
        values = {"cache.path": Path(name, "cache"), "index.enabled": False, "chunking.size": 16, "chunking.overlap": 4}
        values["embedding.batch_size"] = 2
        settings = Settings().with_values({**values, "store.path": Path(name, "store")})
        with Memory(settings=settings, embedder=model) as memory:
            before = 0
            for texts_now in rounds:
                for number, text in enumerate(texts_now):
                    path = folder / f"{number}.md"
                    path.unlink(missing_ok=True)
                    if text is not None:
                        path.write_text(text)
                report = memory.ingest(folder, prune_all=True)
                now = memory.store.documents.count()
                assert report.failed == 0
                assert report.added + report.updated + report.unchanged == now
                assert before + report.added - report.deleted == now
                assert report.embedded + report.cache_hits <= report.added
                before = now
            grown = export(memory)
        with Memory(settings=settings.with_values({"store.path": Path(name, "anew")}), embedder=model) as memory:
            memory.ingest(folder)
            assert export(memory) == grown
