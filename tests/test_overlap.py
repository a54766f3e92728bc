"""An ingest whose model works aside: what is read ahead and stored beside it comes to the same, however it ends."""

import os
import signal
import sys
import threading
import time

import pytest
from fault_cases import dump
from hypothesis import given
from hypothesis import strategies as st
from overlap_cases import SMALL, Aside, beside
from store_cases import start, wait_until

from omnimemory.embedders.mlx.embedder import MlxEmbedder
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.served import ServedEmbedder
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import EmbedderError, StoreError
from omnimemory.ingest import overlapped_run, pace
from omnimemory.ingest.overlap import ReadAhead, overlap
from omnimemory.ingest.pace import Pace
from omnimemory.memory import Memory
from omnimemory.storage import index_writer
from omnimemory.storage.drainer import Drainer
from omnimemory.storage.index_writer import IndexWriter
from omnimemory.storage.store import Store

TABLES = ("commands", "events")


@pytest.fixture
def even(monkeypatch):
    """All batches as large as the setting says: how large they are otherwise depends on the clock."""
    monkeypatch.setattr(pace, "_LEAST_SHARE", 1)


@pytest.fixture
def folder(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(60):
        (notes / f"n{number:02}.md").write_text(f"# Note {number}\n\nIt is about subject {number * 7 % 13}.\n")
        os.utime(notes / f"n{number:02}.md", (1_600_000_000, 1_600_000_000))  # of a fresh file no time is remembered
    return notes


def run(numbers, size, embed=lambda batch: batch, store=lambda batch, made: None, stop=lambda: None):
    """Overlap batches of so many numbers of an iterator."""

    def batches():
        batch = []
        for number in numbers:
            batch.append(number)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    overlap(ReadAhead(batches(), lambda batch: len(batch) < size, stop), lambda batch, _: embed(batch), store)


@given(st.integers(0, 40), st.integers(1, 7))
def test_everything_is_stored_once_and_in_order_and_at_most_three_batches_are_in_work(count, size):
    read, stored = [], []

    def numbers():
        for number in range(count):
            assert number - len(stored) <= 4 * size
            read.append(number)
            yield number

    run(numbers(), size, lambda batch: (batch, len(stored)), lambda batch, made: stored.extend(made[0]))
    assert stored == read == list(range(count))
    assert beside() == []


def test_only_the_caller_embeds_and_the_last_batch_is_stored_by_it_as_well():
    threads = {"read": [], "embed": [], "store": []}

    def numbers():
        for number in range(10):
            threads["read"].append(threading.current_thread())
            yield number

    run(
        numbers(),
        4,
        lambda _: threads["embed"].append(threading.current_thread()),
        lambda *_: threads["store"].append(threading.current_thread()),
    )
    caller = threading.current_thread()
    assert threads["embed"] == [caller] * 3
    assert [thread is caller for thread in threads["store"]] == [False, False, True]
    assert [thread is caller for thread in threads["read"]] == [True] * 4 + [False] * 6


def test_a_batch_is_stored_and_one_is_read_once_the_model_has_the_next_and_not_before():
    read, stored, seen = [], [], []

    def numbers():
        for number in range(4):
            read.append(number)
            yield [number]

    def embed(batch, meanwhile):
        time.sleep(0.02)  # who does not wait to be told would be seen
        seen.append((list(read), list(stored)))
        if batch != [2]:  # of that one the model is not asked
            meanwhile.begin()
            meanwhile.begin()
            assert wait_until(lambda: len(read) == min(4, batch[0] + 2) and len(stored) == batch[0])
            assert wait_until(lambda: ahead.is_ready)
        return batch

    ahead = ReadAhead(numbers(), lambda _: False, lambda: None)
    overlap(ahead, embed, lambda batch, _: stored.append(batch))
    assert seen[:3] == [([0], []), ([0, 1], []), ([0, 1, 2], [[0]])]
    assert seen[3][1][:2] == [[0], [1]]
    assert stored == [[0], [1], [2], [3]]


def test_the_next_batch_is_read_when_the_one_before_is_stored_and_never_two_at_once():
    done = []

    def numbers():
        for number in range(6):
            done.append(("read", number))
            yield [number]

    def store(batch, _):
        time.sleep(0.02)  # longer than the model takes, and longer than reading would
        done.append(("stored", batch[0]))

    def embed(batch, meanwhile):
        meanwhile.begin()
        meanwhile.begin()
        return batch

    overlap(ReadAhead(numbers(), lambda batch: batch == [5], lambda: None), embed, store)
    order = [("stored", number) for number in range(6)]
    assert [one for one in done if one[0] == "stored"] == order
    for number in range(2, 6):
        assert done.index(("stored", number - 2)) < done.index(("read", number)) < done.index(("stored", number))


def test_a_batch_is_stored_at_once_while_the_next_is_still_read():
    stored = []

    def batches():
        yield [0]
        yield [1]
        assert wait_until(lambda: stored == [[0], [1]])
        yield [2]

    def embed(batch, meanwhile):
        if batch == [1]:
            meanwhile.begin()
        return batch

    overlap(
        ReadAhead(batches(), lambda batch: batch == [2], lambda: None), embed, lambda batch, _: stored.append(batch)
    )
    assert stored == [[0], [1], [2]]


def test_more_to_do_comes_in_order_before_the_batch_is_stored_and_once_the_model_works_again():
    done, seen = [], []

    def embed(batch, meanwhile):
        meanwhile.later(lambda: done.append((batch, "before")))
        seen.append(list(done))
        if batch != [1]:
            meanwhile.begin()
            assert wait_until(lambda: (batch, "before") in done and (batch == [2] or ahead.is_ready))
        meanwhile.later(lambda: done.append((batch, "after")))
        return batch

    ahead = ReadAhead(iter([[0], [1], [2]]), lambda batch: batch == [2], lambda: None)
    overlap(ahead, embed, lambda batch, _: done.append((batch, threading.current_thread() is threading.main_thread())))
    assert [batch for batch, _ in done] == [[0]] * 3 + [[1]] * 3 + [[2]] * 3
    assert [what for _, what in done] == ["before", "after", False] * 2 + ["before", "after", True]
    assert (seen[0], seen[1], seen[2][:3]) == ([], done[:1], done[:3])  # of the second, the model was not asked


@pytest.mark.parametrize("when", [0, 1, 2])
def test_an_error_of_what_else_was_to_do_is_raised(when):
    stored = []

    def fail():
        raise ZeroDivisionError

    def embed(batch, meanwhile):
        if batch == [when]:
            meanwhile.later(fail)
        return batch

    ahead = ReadAhead(iter([[0], [1], [2]]), lambda batch: batch == [2], lambda: None)
    with pytest.raises(ZeroDivisionError):
        overlap(ahead, embed, lambda batch, _: stored.append(batch))
    assert stored[:when] == [[0], [1]][:when]
    assert [2] not in stored
    assert beside() == []


@pytest.mark.parametrize("where", ["read", "embed", "store"])
@pytest.mark.parametrize("number", [0, 5, 9, 17])
def test_an_error_anywhere_is_raised_and_nothing_goes_on_behind_it(where, number):
    stored, stopped = [], []

    def fails(place, numbers):
        if place == where and number in numbers:
            raise ZeroDivisionError

    def numbers():
        for each in range(18):
            fails("read", [each])
            yield each

    def store(batch, _):
        fails("store", batch)
        stored.extend(batch)

    with pytest.raises(ZeroDivisionError):
        run(numbers(), 4, lambda batch: fails("embed", batch), store, lambda: stopped.append(None))
    assert stored == list(range(number // 4 * 4 if where != "read" else len(stored)))
    assert len(stored) <= number
    assert beside() == []


def test_a_small_ingest_starts_no_thread(settings, folder):
    names = []
    with Memory(settings=settings, embedder=Aside(lambda _: names.extend(beside()))) as memory:
        assert memory.ingest(folder).added == 60
    assert names == []


def test_a_store_filled_beside_the_model_equals_one_filled_in_turn(settings, folder, tmp_path):
    seen, history = [], tmp_path / "history"
    history.write_text("".join(f"echo {n % 41} > out{n % 7}\n" for n in range(200)))
    places = {}
    for name, embedder in (("turn", StaticEmbedder()), ("aside", Aside(lambda _: seen.extend(beside())))):
        place = tmp_path / name
        values = {"store.path": place / "store", "cache.path": place / "cache", **SMALL}
        with Memory(settings=settings.with_values(values), embedder=embedder) as memory:
            told = [memory.ingest(folder), memory.ingest_history(history, shell="bash"), memory.ingest(folder)]
        counts = [(r.added, r.unchanged, r.embedded, r.cache_hits, r.events, r.pending, r.failures) for r in told]
        places[name] = (counts, dump(place))
    assert places["turn"] == places["aside"]
    assert set(seen) == {"omnimemory-read", "omnimemory-store_0"}


@pytest.mark.usefixtures("even")
def test_texts_are_prepared_ahead_for_a_model_that_was_asked_for_those_before(settings, tmp_path):
    class Prepared(Aside):
        def __init__(self):
            super().__init__()
            self.ahead, self.asked = [], []

        def read_ahead(self, texts, role):
            assert role == "document"
            assert not texts or threading.current_thread().name == "omnimemory-read"
            self.ahead.append(texts)

        def embed(self, texts, role):
            self.asked += texts
            return super().embed(texts, role)

    history, secret = tmp_path / "history", "b7Xq9Zr2Lm4Kw8Tn6Vp3"
    history.write_text("".join(f"echo {n} {secret if n == 20 else n}\n" for n in range(24)))
    seen = []
    for name in ("one", "another"):
        values = {"store.path": tmp_path / name, **SMALL}
        with Memory(settings=settings.with_values(values), embedder=Prepared()) as memory:
            memory.ingest_history(history, shell="bash")
            seen.append((memory.embeddings.embedder.asked, [list(texts) for texts in memory.embeddings.embedder.ahead]))
    (asked, ahead), known = seen
    first, second, *rest = ahead
    assert (len(first), len(second), any(rest), rest[-1]) == (8, 8, False, [])  # in the end nothing is kept of them
    assert sorted(first + second) == sorted(asked[8:])
    assert len(asked) == 24
    assert not any(secret in text for text in first + second)
    assert not any(known[0] + known[1])  # the cache knows all of them: there is no model to prepare them for


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=["interrupt", "error"])
@pytest.mark.parametrize("where", ["progress", "embed"])
def test_whoever_breaks_it_off_has_what_was_committed_and_the_next_run_completes_it(settings, folder, error, where):
    def broken(number, when):
        if number == when:
            raise error

    embedder = Aside(lambda number: broken(number, 5) if where == "embed" else None)
    with Memory(settings=settings.with_values(SMALL), embedder=embedder) as memory:
        with pytest.raises(error):
            memory.ingest(folder, progress=lambda p: broken(p.done, 40) if where == "progress" else None)
        assert beside() == []
        kept = memory.store.documents.count()
        assert kept % 8 == 0
        assert 16 <= kept <= 40
        rest = memory.ingest(folder)
        assert (rest.added, rest.unchanged) == (60 - kept, kept)


@pytest.mark.usefixtures("even")
def test_a_model_that_fails_leaves_the_rest_pending_and_is_not_asked_for_every_batch(settings, folder):
    def failing(number):
        if number == 3:
            raise EmbedderError("the model is gone")

    embedder = Aside(failing)
    with Memory(settings=settings.with_values(SMALL), embedder=embedder) as memory:
        report = memory.ingest(folder)
        assert (report.added, report.embedded, report.pending, embedder.batches) == (60, 16, 44, 3)
        assert report.degraded == "the model is gone"
        assert memory.ingest(folder).embedded == 44


@pytest.mark.usefixtures("even")
def test_what_is_forgotten_meanwhile_is_neither_stored_nor_left_in_the_cache(settings, folder):
    def forget(number):
        if number == 5:
            other.forget(pattern="re:Note 3$")

    with Memory(settings=settings.with_values(SMALL)) as other:
        embedder = Aside(forget)
        with Memory(settings=settings.with_values(SMALL), embedder=embedder) as memory:
            report = memory.ingest(folder)
            assert report.failed == 1
            assert "something was forgotten while this ran" in report.failures[0].reason
            assert 24 <= report.added <= 32
            assert memory.cache.stats()["items"] == memory.store.documents.count()
            assert not [text for (text,) in memory.store.catalog.rows("SELECT text FROM chunks") if "Note 3\n" in text]


@pytest.mark.usefixtures("even")
def test_a_disk_that_is_full_while_a_batch_is_stored_is_an_error_and_what_was_committed_stays(
    settings, folder, monkeypatch
):
    with Memory(settings=settings.with_values(SMALL), embedder=Aside()) as memory:
        real, calls = memory.store.documents.add, []

        def full(*given, **options):
            calls.append(threading.current_thread().name)
            if len(calls) == 20:
                raise OSError(28, "No space left on device")
            return real(*given, **options)

        monkeypatch.setattr(memory.store.documents, "add", full)
        with pytest.raises(StoreError, match="is full"):
            memory.ingest(folder)
        assert calls[-1] == "omnimemory-store_0"
        monkeypatch.undo()
        assert memory.store.documents.count() == 16
        assert memory.ingest(folder).added == 44


STOPPED = """
import sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.ingest import pace
from omnimemory.memory import Memory
from overlap_cases import Aside

pace._LEAST_SHARE = 1
place, notes = map(Path, sys.argv[1:3])
values = {"store.path": place / "store", "cache.path": place / "cache", "embedding.batch_size": 8}

def first(number):
    if number == int(sys.argv[3]):
        print("in it", flush=True)
        sys.stdin.readline()

with Memory(settings=Settings().with_values({**values, "index.enabled": False}), embedder=Aside(first)) as memory:
    memory.ingest(notes)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_process_that_is_stopped_midway_leaves_whole_batches_and_the_next_one_completes_them(
    settings, folder, tmp_path, number, batch
):
    def opened(place):
        values = {"store.path": place / "store", "cache.path": place / "cache", **SMALL}
        return Memory(settings=settings.with_values(values))

    with opened(tmp_path / "wanted") as memory:
        memory.ingest(folder)
    child = start(STOPPED, tmp_path / "stopped", folder, batch)
    assert child.stdout.readline() == "in it\n"
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == -number
    with opened(tmp_path / "stopped") as memory:
        # The batch before the one that was being embedded may have been stored or not, unless the end was orderly.
        possible = {(batch - 1) * 8, max(0, batch - 2) * 8} if number == signal.SIGKILL else {(batch - 1) * 8}
        assert memory.store.documents.count() in possible
        memory.ingest(folder)
    assert dump(tmp_path / "stopped") == dump(tmp_path / "wanted")


def test_onnx_models_and_servers_work_aside_and_the_static_model_does_not():
    assert OnnxEmbedder.works_aside
    assert MlxEmbedder.works_aside
    assert ServedEmbedder.works_aside
    assert not hasattr(StaticEmbedder, "works_aside")


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("rate", "size"),
    [(1, 64), (100, 100), (300.4, 300), (500, 500), (5000, 512)],
    ids=["very slow", "slow", "so so", "almost all", "fast"],
)
def test_a_batch_is_what_the_model_does_in_a_second_within_its_bounds(monkeypatch, rate, size):
    clock = Clock()
    monkeypatch.setattr(pace.time, "perf_counter", clock)
    told = Pace(512)
    assert told.size == told.least == 64
    for _ in range(3):
        with told.timed(told.size):
            clock.now += told.size / rate
        assert told.size == size


def test_the_first_batch_of_a_model_that_works_aside_is_small_and_the_next_follow_its_pace(
    settings, tmp_path, monkeypatch
):
    clock, sizes, text = Clock(), [], "One more line of it.\n\n"
    monkeypatch.setattr(pace.time, "perf_counter", clock)

    class Slow(Aside):
        def embed(self, texts, role):
            if role == "document":
                clock.now += len(texts) / 20
                sizes.append(len(texts))
            return super().embed(texts, role)

    for number in range(80):
        (tmp_path / f"n{number}.md").write_text(f"# Note {number}\n\n{text}")
    values = {"embedding.batch_size": 32}
    with Memory(settings=settings.with_values(values), embedder=Slow()) as memory:
        assert memory.ingest(tmp_path).embedded == 80
    # The second is read while the first is in work: before, while or after that is known to be slow.
    assert sizes[0] == 4
    assert 4 <= sizes[1] <= 20
    assert set(sizes[2:-1]) == {20}


def test_the_first_commands_of_a_history_are_few_because_the_model_waits_for_them(settings, tmp_path):
    sizes, history = [], tmp_path / "history"
    history.write_text("".join(f"git show {number:040x}\n" for number in range(80)))

    class Counted(Aside):
        def embed(self, texts, role):
            sizes.append(len(texts))
            return super().embed(texts, role)

    with Memory(settings=settings.with_values({"embedding.batch_size": 32}), embedder=Counted()) as memory:
        assert memory.ingest_history(history, shell="bash").embedded == 80
    assert sizes == [4, 32, 32, 12]


@pytest.mark.parametrize("size", [64, 512])
def test_the_index_is_written_from_the_first_batch_on_unless_there_is_no_other(indexed, folder, size, monkeypatch):
    started, batches, start_drainer = [], [], IndexWriter._start_drainer
    monkeypatch.setattr(IndexWriter, "_start_drainer", lambda self: started.append(len(batches)) or start_drainer(self))
    settings = indexed.with_values({"embedding.batch_size": size})
    with Memory(settings=settings, embedder=Aside(lambda _: batches.append(None))) as memory:
        memory.ingest(folder)
        assert memory.store.generations.waiting() == 0
        assert memory.store.documents.count() == 60
    assert started in ([1], [2]) if size == 64 else started == []


def test_an_open_index_stays_open_while_a_little_is_ingested(indexed, folder, monkeypatch):
    started = []
    monkeypatch.setattr(IndexWriter, "_start_drainer", lambda _: started.append(None))
    with Memory(settings=indexed.with_values({"embedding.batch_size": 64}), embedder=Aside()) as memory:
        memory.add("a note")
        assert memory.store.warm() is None
        memory.ingest(folder)
        assert memory.store.status()["index"]["open"]
        assert memory.store.generations.waiting() == 0
    assert started == []


@pytest.mark.parametrize(
    ("size", "commits"),
    [(14, [(2, 0), (16, 0), (20, 20)]), (80, [(10, 0), (20, 20)]), (160, [(20, 0), (20, 0), (20, 20)])],
)
def test_the_index_takes_all_there_is_before_the_last_batch_is_waited_for(
    settings, tmp_path, monkeypatch, size, commits
):
    history = tmp_path / "history"
    history.write_text("".join(f"git commit -m {'x' * number}\n" for number in range(1, 21)))
    seen, told = [], []

    def committed(self, *, last=False):
        (told if last else seen).append(tuple(self.catalog.value(f"SELECT count(*) FROM {t}") for t in TABLES))

    monkeypatch.setattr(Store, "committed", committed)
    settings = settings.with_values({"embedding.batch_size": size, "history.steps": 0})
    with Memory(settings=settings, embedder=Aside()) as memory:
        memory.ingest_history(history, shell="bash")
    assert sorted(seen + told) == sorted(commits)
    assert (commits[-2] if size == 160 else commits[-1]) in told


def test_once_the_last_batch_is_read_the_index_takes_what_comes_before_it(indexed, folder, monkeypatch, even):
    told, ahead = [], []

    class Held(ReadAhead):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            ahead.append(self)

    def seventh(number):
        assert number != 7 or wait_until(lambda: ahead[0].ends)

    monkeypatch.setattr(overlapped_run, "ReadAhead", Held)
    monkeypatch.setattr(Store, "committed", lambda self, *, last=False: told.append((self.documents.count(), last)))
    with Memory(settings=indexed.with_values(SMALL), embedder=Aside(seventh)) as memory:
        memory.ingest(folder)
    assert [count for count, _ in told] == [8, 16, 24, 32, 40, 48, 56, 60]
    assert [last for _, last in told[:5]] == [False] * 5
    assert [last for _, last in told[6:]] == [True] * 2


def test_turns_are_short_until_the_last_overlapped_run_ends():
    usual, seen = sys.getswitchinterval(), []

    def nested(_batch):
        seen.append(sys.getswitchinterval())
        if len(seen) == 1:
            run(range(3), 2, nested)
            seen.append(sys.getswitchinterval())

    run(range(5), 2, nested)
    assert len(seen) == 6
    assert all(interval < usual for interval in seen)
    assert sys.getswitchinterval() == usual
    with pytest.raises(ZeroDivisionError):
        run(range(5), 2, lambda _: 1 / 0)
    assert sys.getswitchinterval() == usual


@pytest.fixture
def starts(monkeypatch):
    """How many rows were pending each time that a process to write the index was started."""
    waiting, start_drainer = [], IndexWriter._start_drainer

    def counted(self):
        waiting.append(self._generations.waiting())
        start_drainer(self)

    monkeypatch.setattr(index_writer, "_CHILD_ROWS", 8)
    monkeypatch.setattr(IndexWriter, "_start_drainer", counted)
    return waiting


def test_an_ingest_that_does_not_wait_for_the_index_leaves_it_to_a_process_that_goes_on(
    indexed, folder, monkeypatch, starts
):
    finished = []
    monkeypatch.setattr(Drainer, "finish", lambda *_: finished.append(None))
    settings = indexed.with_values({**SMALL, "index.wait": False, "search.exact_rows": 100})
    with Memory(settings=settings, embedder=Aside()) as memory:
        memory.ingest(folder)
        assert starts == [60]
        assert memory.search("subject 3", k=1)
    assert finished == []
    with Memory(settings=indexed, embedder=Aside()) as memory:
        assert wait_until(lambda: memory.store.generations.waiting() == 0)
        assert wait_until(lambda: memory.store.status()["index"]["holder"] is None)
        assert memory.warm() is None
        assert memory.store._session._held._index.count(memory.store.documents.collection) == 60


def test_what_is_left_of_the_index_is_done_by_who_asks_for_it(indexed, folder, starts):
    settings = indexed.with_values({**SMALL, "index.wait": False})
    with Memory(settings=settings, embedder=Aside()) as memory:
        memory.ingest(folder)
        assert wait_until(lambda: memory.store.drain() is None and not memory.store.generations.waiting())
        assert wait_until(lambda: memory.store.status()["index"]["holder"] is None)
        assert memory.store._session._writer._drainer is None


@pytest.mark.parametrize(("rows", "begins"), [(10, 16), (30, 32)])
def test_beyond_what_searches_compare_the_index_is_written_beside_an_ingest_that_does_not_wait(
    indexed, folder, even, starts, rows, begins
):
    settings = indexed.with_values({**SMALL, "index.wait": False, "search.exact_rows": rows})
    with Memory(settings=settings, embedder=Aside()) as memory:
        memory.ingest(folder)
    assert starts == [begins]


def test_a_few_commands_are_stored_together_with_their_events(settings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Store, "committed", lambda _, *, last=False: seen.append(last))
    history = tmp_path / "history"
    history.write_text("make test\nmake lint\n")
    with Memory(settings=settings.with_values({"history.steps": 0}), embedder=Aside()) as memory:
        memory.ingest_history(history, shell="bash")
        assert memory.store.commands.count() == 2
        assert seen == [False]
