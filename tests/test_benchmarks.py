"""The benchmarks run: tiny sizes, every ratio printed, nothing outside a temporary folder. No time is asserted.

One of them runs with every ``make test``; the others cost a minute and more together: see the mark ``slow``.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.schedule import shares
from omnimemory.sources.history import Cursor, read_history

ROOT = Path(__file__).resolve().parents[1]


def benchmark(tmp_path, *arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def rows_of(done: subprocess.CompletedProcess) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# What each must compare with a ratio, as the beginning or a part of the row's title.
COMPARED = {
    "ingest": ("documents, whole program", "documents, its imports not counted"),
    "ingest --history": ("commands, whole program", "commands, its imports not counted"),
    "reingest": (
        "documents, same process",
        "commands, same process",
        "documents, new process",
        "commands, new process",
    ),
    "search": ("no filter, p50", "no filter, p95"),
    "filter": ("half match", "1 % match", "$in of 10"),
    "cache": ("as they were put", "in random order"),
    "startup": ("omnimemory --help", "import omnimemory", "cold search in"),
}


# What must hold at any size is judged in a quick run too; times are not.
JUDGED = {
    "filter": [("answers that differ from all cosines with numpy", "0 of 15")],
    "reingest": [("documents, new process", ""), ("commands, new process", "")],
}


QUICK = {"cache"}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMPARED]
)
def test_a_benchmark_runs_and_prints_its_ratios(command, tmp_path):
    rows = rows_of(benchmark(tmp_path, *command.split(), "--quick", "--json"))
    compared = {row["what"]: row["ratio"] for row in rows if row["ratio"] is not None}
    for title in COMPARED[command]:
        found = [ratio for what, ratio in compared.items() if title in what]
        assert found, f"no ratio for {title!r} in {sorted(compared)}"
        assert all(0 < ratio["least"] <= ratio["median"] <= ratio["greatest"] for ratio in found)
    judged = [row for row in rows if row["ok"] is not None]
    assert len(judged) == len(JUDGED.get(command, []))
    for row, (title, ours) in zip(judged, JUDGED.get(command, []), strict=True):
        assert title in row["what"]
        assert ours in row["ours"]
        assert row["ok"]
    assert not list(tmp_path.iterdir()), "the temporary folder was not removed"


@pytest.mark.slow
def test_the_hook_is_measured_in_every_shell_that_is_there(tmp_path):
    rows = rows_of(benchmark(tmp_path, "hook", "--quick", "--json"))
    for shell in ("bash", "zsh", "fish"):
        found = [row for row in rows if shell in row["what"]]
        if shutil.which(shell) is None:
            assert "not installed" in found[0]["what"]
            continue
        assert [row["what"].rpartition(", ")[2] for row in found] == ["median", "p95"]
        assert all(len(row["data"]["ours"]) == len(row["data"]["limit"]) == 10 for row in found)
        assert all(time > 0 for row in found for time in row["data"]["ours"] + row["data"]["limit"])


@pytest.mark.slow
def test_the_table_has_a_column_for_each_part_of_the_comparison(tmp_path):
    done = benchmark(tmp_path, "cache", "--quick")
    assert done.returncode == 0, done.stderr
    head, rule, *lines = done.stdout.splitlines()
    assert head.split("  ")[0] == "what"
    assert [word in head for word in ("ours", "limit or peer", "ratio", "target", "ok?")] == [True] * 5
    assert set(rule) <= {"-", " "}
    assert len(lines) >= 5
    assert "round 1 of 1" in done.stderr


@pytest.mark.slow
def test_schedule_measures_an_admission_and_its_share_of_a_batch(tmp_path):
    rows = rows_of(benchmark(tmp_path, "schedule", "--quick", "--json"))
    titles = {row["what"]: row for row in rows}
    median, p99 = titles["one admission"]["data"]["seconds"]
    assert 0 < median <= p99
    of = "by the time of a batch of 512 texts, static"
    alone, learned = titles[f"one admission, {of}"], titles[f"measuring + predicting, {of}"]
    admission, measuring, predicting = learned["data"]["shares"]
    assert alone["ours"] == f"{admission:.3f} %"
    assert learned["ours"] == f"{measuring:.3f} + {predicting:.3f} %"
    (commands,) = (row for name, row in titles.items() if name.startswith("commands a CPU second"))
    speeds = {tuple(point): found for point, found in commands["data"]["points"]}
    assert len(speeds) >= 4
    assert (None, 512) in speeds
    assert all(value > 0 for found in speeds.values() for value in found)


@pytest.mark.parametrize(("predicting", "ok"), [(0.004, True), (0.006, False)], ids=["less", "more"])
def test_one_per_cent_of_a_batch_is_the_target_of_what_its_row_names(predicting, ok):
    checks = {"one admission": (0.5, 1), "measuring a batch": (0.005, 1), "predicting a batch": (predicting, 1)}
    admission, learned = shares("static", checks, 1.0)
    assert (admission.what.split(",")[0], admission.target, admission.ok) == ("one admission", "", None)
    assert (learned.what.split(",")[0], learned.target, learned.ok) == ("measuring + predicting", "<= 1", ok)


def test_fusion_says_what_it_lacks(tmp_path):
    rows = rows_of(benchmark(tmp_path, "fusion", "--quick", "--json", "--tldr", tmp_path / "absent.tsv"))
    assert [row["what"].split(":")[0] for row in rows] == ["skipped", "skipped"]
    assert "absent.tsv" in rows[0]["what"]
    assert "--docs PATH" in rows[1]["what"]


@pytest.mark.slow
def test_redaction_says_what_it_lacks_and_measures_what_it_has(tmp_path):
    rows = rows_of(benchmark(tmp_path, "redaction", "--quick", "--json"))
    assert "--tldr PATH" in rows[0]["what"]
    assert "20 kB" in rows[1]["what"]
    pages = tmp_path / "pages.tsv"
    lines = [f"tool{n}\tLog in\ttool{n} login -t token" for n in range(6)] + ["other\tList\tother --all files"]
    pages.write_text("page\tdescription\tcommand\n" + "\n".join(lines) + "\n", encoding="utf-8")
    rows = rows_of(benchmark(tmp_path, "redaction", "--quick", "--json", "--tldr", pages))
    titles = {row["what"]: row for row in rows}
    found = titles["held-out tools, all tables, secrets of letters and digits"]["data"]["found"]
    assert 0.5 < found[0] <= 1
    assert titles["other commands touched"]["ours"] == "0 of 1"


def test_embed_without_the_model_says_what_it_lacks(tmp_path):
    rows = rows_of(benchmark(tmp_path, "embed", "--quick", "--json"))
    assert [row["what"].split(":")[0] for row in rows] == ["skipped"]
    assert "--models PATH" in rows[0]["what"]


@pytest.mark.slow
def test_embed_compares_with_the_bare_session_and_with_the_peers_that_there_are(minilm, tmp_path):
    models = minilm.folder.parent
    rows = rows_of(benchmark(tmp_path, "embed", "--quick", "--json", "--models", models, "--texts", "20"))
    titles = {row["what"]: row for row in rows}
    for peer in ("sentence-transformers", "txtai"):
        assert any(f"{peer} is not installed" in title for title in titles)
    for precision in ("float32", "int8"):
        assert titles[f"commands, {precision}, against Chroma"]["ratio"]["median"] > 1
        for kind in ("commands", "chunks"):
            bare = f"{kind}, {precision}, against the bare session on the same batches, tokenised before"
            assert titles[bare]["ratio"]["median"] > 0
    pipelines = [row for title, row in titles.items() if "against embedding alone" in title]
    assert len(pipelines) == 8
    assert ["index included" in row["what"] for row in pipelines] == [False, True] * 4
    assert all(len(row["data"]["pairs"]) == 1 for row in pipelines)
    # Chroma's function imports onnxruntime without a word about its telemetry, which leaves a session file.
    assert not [path for path in tmp_path.iterdir() if path.name != ".ses"], "the temporary folder was not removed"


@pytest.mark.slow
def test_ready_tells_when_the_first_answer_is_there_and_where_a_search_spends_its_time(tmp_path):
    rows = rows_of(benchmark(tmp_path, "ready", "--quick", "--json", "--rows", "20"))
    titles = {row["what"]: row for row in rows}
    parts = titles["static: first answer of a process"]["data"]["inside"][0]
    assert set(parts) == {"import", "store", "model", "question", "close", "cpu", "later", "later_cpu"}
    assert all(seconds > 0 for seconds in parts.values())
    assert "static: a question to 20 notes" in titles
    assert "interpreter" in titles["static: omnimemory search, a whole process"]["limit"]
    assert any(title.startswith("skipped: it needs --models") for title in titles)


@pytest.mark.slow
def test_ready_compares_with_chroma_over_the_same_notes(minilm, tmp_path):
    given = ("--quick", "--json", "--rows", "20", "--models", minilm.folder.parent)
    titles = {row["what"]: row for row in rows_of(benchmark(tmp_path, "ready", *given))}
    for model in ("static", "all-MiniLM-L6-v2"):
        for what in ("first answer of a process", "a question to 20 notes"):
            row = titles[f"{model}: {what}, against Chroma"]
            assert all(value > 0 for value in (*row["data"]["ours"], *row["data"]["limit"]))
    assert any(title.startswith("skipped: Chroma and sentence-transformers") for title in titles)


FLOWERS = ("daisy", "iris", "poppy", "rose", "tulip", "violet", "lily", "lotus", "peony", "aster", "dahlia", "clover")


@pytest.mark.slow
def test_fusion_fits_both_kinds_and_scores_the_winner_on_the_other_half(tmp_path):
    pages, folder = garden(tmp_path)
    rows = rows_of(
        benchmark(tmp_path, "fusion", "--quick", "--json", "--tldr", pages, "--docs", folder, "--queries", "12")
    )
    titles = [row["what"] for row in rows]
    for kind, count in (("commands", len(FLOWERS)), ("documents", len(FLOWERS))):
        fitted = [title for title in titles if title.startswith(f"{kind}, fitted half, hybrid")]
        assert len(fitted) == 11
        assert len([title for title in titles if title.startswith(f"{kind}, other half, hybrid")]) in (1, 2)
        assert [row["limit"] for row in rows if f"{count} {kind}" in row["limit"]]
        assert any("the winner" in row["limit"] for row in rows if row["what"].startswith(kind))
    # Each flower is named in one text only, so keywords alone must find nearly all of them.
    keyword = next(row for row in rows if row["what"] == "commands, other half, keyword")
    assert keyword["data"]["found"] == 1.0
    assert 0 < keyword["data"]["mrr"] <= 1


def garden(tmp_path) -> tuple[Path, Path]:
    """Return commands with descriptions, and a folder of sections with headings, each about one flower."""
    pages, folder = tmp_path / "pages.tsv", tmp_path / "docs"
    lines = [f"{name}\tShow the {name} of the garden\tgarden --show {name}" for name in FLOWERS]
    # The same command on a second page, spaced otherwise, is the same command.
    lines.append("other\tList a daisy\tgarden  --show   daisy")
    pages.write_text("page\tdescription\tcommand\n" + "\n".join(lines) + "\n", encoding="utf-8")
    folder.mkdir()
    for name in FLOWERS:
        body = f"The {name} stands in bed {name}, and whoever waters the {name} notes it down. " * 5
        (folder / f"{name}.md").write_text(f"# About the {name}\n\n{body}\n", encoding="utf-8")
    return pages, folder


def test_quality_says_what_it_lacks(tmp_path):
    (row,) = rows_of(benchmark(tmp_path, "quality", "--quick", "--json"))
    assert "--models PATH" in row["what"]


@pytest.mark.slow
def test_quality_compares_int8_and_shorter_vectors_with_float32(minilm, tmp_path):
    pages, folder = garden(tmp_path)
    given = ("--models", minilm.folder.parent, "--tldr", pages, "--docs", folder)
    rows = rows_of(benchmark(tmp_path, "quality", "--quick", "--json", *given))
    titles = {row["what"]: row for row in rows}
    for kind, asked in (("commands", len(FLOWERS) + 1), ("sections", len(FLOWERS))):
        whole = titles[f"{kind}, {asked} questions, {len(FLOWERS)} texts: MRR@10 in int8"]
        # Each flower is named in one text only, and each question names one.
        assert min(map(len, whole["data"]["ranks"].values())) == asked
        assert sum(rank == 1 for rank in whole["data"]["ranks"]["float32"]) >= asked - 1
        assert len([title for title in titles if title.startswith(f"{kind}, ") and "cut to" in title]) == 3
        assert 0.98 < min(whole["data"]["cosines"]) < 1
        assert 0.9999 < whole["data"]["alone"] <= 1.000001
    without = rows_of(benchmark(tmp_path, "quality", "--quick", "--json", *given[:2]))
    assert [row["what"].partition(":")[0] for row in without] == ["skipped", "skipped"]


def test_a_generated_history_is_what_zsh_would_write_and_repeats_itself(tmp_path):
    path, again = tmp_path / "one", tmp_path / "two"
    for target in (path, again):
        assert benchmark(tmp_path, "history-file", "--lines", 3000, target).returncode == 0
    assert path.read_bytes() == again.read_bytes()
    reading = read_history(path, shell="zsh", cursor=Cursor.from_json({}), key=b"k" * 32)
    events = [entry.event for entry in reading.entries]
    assert len(events) == 3000
    times = [event.timestamp for event in events]
    assert None not in times
    assert times == sorted(times)
    counts = Counter(event.command for event in events)
    assert 0.1 < len(counts) / len(events) < 0.25
    assert counts.most_common(1)[0][1] > 30
    assert any("\n" in command for command in counts)
    assert any("Grüße" in command and "°C" in command for command in counts)


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("search", "--docs", "x")], ids=["none", "unknown", "foreign"])
def test_a_wrong_command_line_is_a_usage_error(arguments, tmp_path):
    done = benchmark(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
