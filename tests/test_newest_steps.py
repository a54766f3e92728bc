"""What is kept of a stream of events is what sorting all of its steps would keep."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from omnimemory.procedure.newest_steps import SEQUENCE, NewestSteps

STREAMS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=80)


def by_sorting(stream, most):
    sessions: dict[int, list[tuple[int, int]]] = {}
    for event, (session, row) in enumerate(stream):
        sessions.setdefault(session, []).append((event, row))
    last = {}
    for session in sessions.values():
        for (_, a), (event, b) in pairwise(session):
            if a != b:
                last[a, b] = max(event, last.get((a, b), 0))
    parts = [run[at : at + SEQUENCE] for run in sessions.values() for at in range(0, len(run), SEQUENCE)]
    parts = sorted((part for part in parts if len(part) > 1), reverse=True)[:most]
    return (
        set(sorted(last, key=last.__getitem__, reverse=True)[:most]),
        {(part[0][0], json.dumps([row for _, row in part])) for part in parts},
    )


@given(stream=STREAMS, most=st.integers(1, 8))
def test_the_newest_are_kept(stream, most):
    newest = NewestSteps(most)
    for event, (session, row) in enumerate(stream):
        newest.take(session, event, row)
    assert (newest.transitions(), newest.sequences()) == by_sorting(stream, most)
