"""What was forgotten stays forgotten though its source holds it still, until somebody asks for it."""

import pytest
from forget_cases import WordEmbedder, events, quick, stamped, texts

from omnimemory.memory import Memory

T = 1_700_000_000
PARTS = [f"## Part {n}\n\n" + f"This is about subject{n}. " * 60 for n in range(4)]


@pytest.fixture
def memory(tmp_path):
    with quick(tmp_path) as opened:
        yield opened


def write(path, parts):
    path.write_text("# Title\n\n" + "\n\n".join(parts) + "\n")
    return path


def told(report):
    return [failure.reason for failure in report.failures]


# -- documents


def test_an_edited_document_brings_back_neither_the_chunk_nor_the_line(memory, tmp_path):
    path = write(tmp_path / "a.md", [*PARTS, "The code is\nzebra pelican.\nOr is it?"])
    memory.ingest(path)
    memory.forget(pattern="zebra")
    assert memory.ingest(path).unchanged > 0
    for last in ("The code is\nzebra pelican.\nOr is it?\n\nMore.", "This was new:\n  zebra pelican.  \n"):
        write(path, [*PARTS[1:], last])
        report = memory.ingest(path)
        assert not [text for text in texts(memory) if "zebra" in text]
        assert [text for text in texts(memory) if "subject3" in text]
        assert any("forgotten" in reason and "--restore" in reason for reason in told(report)), told(report)
    write(path, [*PARTS, "The code is no zebra."])  # a line that was never forgotten
    memory.ingest(path)
    assert [text for text in texts(memory) if "no zebra" in text]


def test_a_copy_elsewhere_is_a_document_of_its_own(memory, tmp_path):
    memory.ingest(write(tmp_path / "a.md", ["zebra"]))
    memory.forget(pattern="zebra")
    memory.ingest(write(tmp_path / "b.md", ["zebra"]))
    assert len(texts(memory)) == 1


def test_a_document_is_restored_on_request_and_stays(memory, tmp_path):
    path = write(tmp_path / "a.md", [*PARTS, "zebra"])
    memory.ingest(path)
    before = texts(memory)
    memory.forget(pattern="zebra")
    left = texts(memory)
    assert len(left) < len(before)
    assert memory.ingest(path, restore=True, dry_run=True).added == len(before) - len(left)
    assert texts(memory) == left
    assert memory.ingest(path, restore=True).added == len(before) - len(left)
    assert texts(memory) == before
    write(path, [*PARTS[1:], "zebra"])
    memory.ingest(path)
    assert [text for text in texts(memory) if "zebra" in text]
    assert memory.store.catalog.value("SELECT count(*) FROM tombstones") == 0


def test_a_whole_source_stays_away_and_the_others_of_its_folder_do_not(memory, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("diary.md", "plan.md"):
        write(docs / name, [f"This is the {name}."])
    memory.ingest(docs)
    report = memory.forget(source=docs / "diary.md")
    assert (report.sources, report.chunks) == (1, 1)
    write(docs / "diary.md", ["All is new."])
    write(docs / "plan.md", ["All is well."])
    report = memory.ingest(docs)
    assert any("it was forgotten" in reason for reason in told(report))
    assert ["All is well" in text for text in texts(memory)] == [True]
    assert memory.ingest(docs / "diary.md").added == 0
    assert memory.ingest(docs, restore=True).added == 1
    write(docs / "diary.md", ["All is newer still."])
    memory.ingest(docs)
    assert any("newer still" in text for text in texts(memory))


def test_notes_that_are_added_again_are_wanted(memory):
    memory.add("call the pool", ids="a")
    memory.forget(source="notes")
    assert texts(memory) == []
    memory.add("call the pool", ids="a")
    memory.forget(ids="a")
    memory.add("call the pool", ids="a")
    assert texts(memory) == ["call the pool"]


# -- histories

COMMANDS = ("make test", "git push", "ls", "make test", "df -h")


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history"
    path.write_text(stamped(*COMMANDS))
    return path


def rewrite(history, *commands, first=T):
    history.write_text(stamped(*commands, first=first))


def test_single_runs_stay_forgotten_and_their_command_is_remembered_for_the_others(memory, history):
    memory.ingest_history(history, shell="bash")
    memory.forget(before=T + 61)  # the first runs of make test and git push
    assert events(memory) == [("ls", T + 120.0), ("make test", T + 180.0), ("df -h", T + 240.0)]
    rewrite(history, *COMMANDS[1:], "git push", first=T + 60)  # trimmed, and one more: all is read again
    report = memory.ingest_history(history, shell="bash")
    assert events(memory)[-1] == ("git push", T + 300.0)
    assert len(events(memory)) == 4
    assert any(reason.startswith("1 commands were forgotten") for reason in told(report))


def test_a_command_whose_every_run_was_forgotten_is_not_stored_without_one(memory, history):
    memory.ingest_history(history, shell="bash")
    memory.forget(after=T + 60, before=T + 120)
    rewrite(history, *COMMANDS[1:], first=T + 60)
    memory.ingest_history(history, shell="bash")
    assert "git push" not in texts(memory)
    assert memory.store.commands.count() == 3


def test_a_copy_of_the_history_does_not_bring_it_back(memory, history, tmp_path):
    memory.ingest_history(history, shell="bash")
    memory.forget(pattern="push")
    memory.forget(before=T + 1)
    (tmp_path / "copy").write_text(history.read_text())
    memory.ingest_history(tmp_path / "copy", shell="bash")
    assert [text for text, _ in events(memory)] == ["ls", "make test", "df -h"]


def test_runs_without_a_time_stay_forgotten_in_their_own_history_only(memory, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("ls\nmake test\n")
        memory.ingest_history(tmp_path / name, shell="bash")
    memory.forget(pattern="make", source=tmp_path / "one")
    (tmp_path / "one").write_text("cd\nls\nmake test\n")
    memory.ingest_history(tmp_path / "one", shell="bash")
    assert sorted(text for text, _ in events(memory)) == ["cd", "ls", "ls", "make test"]


def test_a_forgotten_history_is_not_read_until_it_is_restored(memory, history):
    memory.ingest_history(history, shell="bash")
    memory.forget(source=history)
    assert memory.store.status()["commands"]["commands"] == 0
    assert "history was forgotten" in told(memory.ingest_history(history, shell="bash"))[0]
    assert events(memory) == []
    assert memory.ingest_history(history, shell="bash", restore=True).events == 5
    rewrite(history, *COMMANDS, "new")
    assert memory.ingest_history(history, shell="bash").events == 1


def test_commands_are_restored_on_request_and_exactly_once(memory, history):
    memory.ingest_history(history, shell="bash")
    before = events(memory)
    memory.forget(pattern="make")
    memory.forget(before=T + 61)
    assert memory.ingest_history(history, shell="bash", restore=True).events == 3
    assert events(memory) == before
    assert memory.ingest_history(history, shell="bash").events == 0
    assert memory.ingest_history(history, shell="bash", restore=True).events == 0
    assert memory.store.catalog.value("SELECT count(*) FROM tombstones") == 0


def test_an_open_last_line_that_was_forgotten_does_not_come_back_with_the_next_read(memory, history):
    history.write_text("ls\nmake secret")
    memory.ingest_history(history, shell="bash")
    memory.forget(pattern="secret")
    history.write_text("ls\nmake secret\npwd\n")
    memory.ingest_history(history, shell="bash")
    assert [text for text, _ in events(memory)] == ["ls", "pwd"]
    assert texts(memory) == ["ls", "pwd"]


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        ("omnimemory forget --pattern pelican", False),
        ("cd x && .venv/bin/omnimemory --store y.mem forget pelican -k 3", False),
        ("python -m omnimemory forget pelican", False),
        ("omnimemory search pelican", True),
        ("omnimemory status | grep forget pelican", True),
    ],
)
def test_a_line_that_says_what_to_forget_is_not_remembered(memory, history, line, stored):
    history.write_text(f"ls\n{line}\n")
    report = memory.ingest_history(history, shell="bash")
    assert (line in texts(memory)) == stored
    assert bool(report.failures) != stored


# -- while something else goes on


def test_an_ingest_that_had_read_before_something_was_forgotten_stores_nothing_after_it(memory, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3):
        write(docs / f"{number}.md", [f"About zebra number {number}."])
    memory.ingest(docs / "0.md")
    done = []

    def forget(progress):
        if progress.stage == "documents" and progress.done == 2 and not done:
            with Memory(settings=memory.settings, embedder=WordEmbedder(256)) as other:
                done.append(other.forget(source=docs).sources)

    report = memory.ingest(docs, progress=forget)
    assert done == [1]
    assert texts(memory) == []
    assert (report.failed, told(report)) == (1, [told(report)[0]])
    assert "run it again" in told(report)[0]
    cached, found = memory.cache.get_many(
        WordEmbedder(256).fingerprint, "document", 256, ["# Title\n\nAbout zebra number 1."]
    )
    assert (found.tolist(), cached.any()) == ([False], False)
    memory.ingest(docs)
    assert len(texts(memory)) == 2


def test_what_another_process_holds_in_memory_is_not_answered_with(memory):
    memory.add(["call the pool", "water the plants"])
    assert memory.search("pool", mode="vector")[0].text == "call the pool"
    with Memory(settings=memory.settings, embedder=WordEmbedder(256)) as other:
        other.forget(pattern="pool")
    assert [hit.text for hit in memory.search("pool", mode="vector")] == ["water the plants"]
