"""``benchmarks procedure`` runs at a tiny size, and what holds at any size is judged."""

import pytest
from test_benchmarks import benchmark, rows_of


@pytest.mark.slow
def test_procedure_measures_ingest_questions_one_command_more_and_half_steps(tmp_path):
    rows = rows_of(benchmark(tmp_path, "procedure", "--quick", "--json"))
    titles = {row["what"]: row for row in rows}
    (ingest,) = (row for title, row in titles.items() if title.startswith("first ingest of 600 events, "))
    assert ingest["data"]["static"]["peak"] > 0
    for kind in ("a known", "an unseen"):
        assert titles[f"static: next after {kind} command, p50"]["ours"].count("CPU") == 1
    one = titles["one new command: texts embedded, transitions that came and went"]
    assert one["data"]["embedded"] == 1
    assert one["data"]["added"] >= 1
    halves = [row for title, row in titles.items() if "transitions, asked for what is" in title]
    assert len(halves) == 2
    assert all(row["data"][side]["ours"] == 1.0 for row in halves for side in ("before", "after"))
    assert any(title.startswith("skipped: MiniLM") for title in titles)
    assert not list(tmp_path.iterdir()), "the temporary folder was not removed"
