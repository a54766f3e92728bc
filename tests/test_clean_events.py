"""The events of a reading in columns: the same as one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.ingest.events import CleanEvents
from omnimemory.records import Event
from omnimemory.sources.history.entry import Entries

TIMES = st.none() | st.sampled_from([1.0, 2.5, 1_700_000_000.0])
WORDS = st.sampled_from(["ls", "make", "git log", "cat secret", "old"])


def event_of(raw, shell):
    """Some events have a time of their own, which the history may not tell again."""
    command = raw.decode()
    return Event(command, shell=shell, timestamp=7.0 if command == "old" else None)


@given(st.lists(st.tuples(WORDS, TIMES, TIMES)), st.integers(0, 5), st.sets(st.integers(0, 8)), st.booleans())
def test_columns_tell_of_each_event_what_it_says_itself(told, first, gone, hides):
    spans = [(word.encode(), when, lasted, at, at + 1, True) for at, (word, when, lasted) in enumerate(told)]
    entries = Entries("zsh", spans, event_of)
    clean = {word: word for word in entries.commands()} | ({"make": None} if hides else {})
    clean |= {word: "cat [REDACTED]" for word in clean if word == "cat secret"}
    forgotten = {first + position for position in gone if position < len(entries)}
    events = CleanEvents(entries, first, clean, forgotten)
    rows = {command: number for number, command in enumerate(events.commands(), start=10)}
    times, numbers = events.columns(rows)
    kept = [event for _, event in events]
    assert len(events) == len(kept) == len(times)
    assert [None if np.isnan(time) else time for time in times.tolist()] == [event.timestamp for event in kept]
    assert numbers.tolist() == [rows[event.command] for event in kept]
