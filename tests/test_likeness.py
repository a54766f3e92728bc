"""Contexts that are alike: asked after commands of which nothing is known, believed as far as there is evidence."""

from __future__ import annotations

import numpy as np
import pytest
from forget_cases import WordEmbedder

from omnimemory import EmbedderError, Memory
from omnimemory.procedure.likeness import KEPT, LEAST_STEPS, LikeContexts
from omnimemory.procedure.predictor import NextCommand
from omnimemory.procedure.steps import Step

PLACES = ["cd web", "cd api", "vim notes.txt", "git pull"]
AFTER = ["npm test", "make test", "wc notes.txt", "make deps"]
NEW = "cd frontend"
DAYS = LEAST_STEPS // 4


def vectors_of(texts):
    """Return vectors of eight numbers: a direction for each place, ``NEW`` near the first, all others apart."""
    rows = np.zeros((len(texts), 8), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        known = PLACES.index(text) if text in PLACES else 4 + len(text) % 4
        row[0 if text == NEW else known] = 1.0
        if text == NEW:
            row[1] = 0.3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def learned(likeness, days=DAYS):
    model = NextCommand(likeness=likeness)
    for _ in range(days):
        for place, after in zip(PLACES, AFTER, strict=True):
            model.learn([], Step(place))
            model.learn([Step(place)], Step(after))
    return model


def test_after_a_new_command_comes_what_came_after_one_that_is_like_it():
    (best,) = learned(LikeContexts(vectors_of)).predict([Step(NEW)], None, 1)
    assert (best.command, best.why) == ("npm test", f"came after `cd web`, which is like `{NEW}`")
    assert 0.25 < best.probability < 0.75
    alone = learned(None).predict([Step(NEW)], None, 9)
    assert next(one.probability for one in alone if one.command == "npm test") < 0.8 * best.probability


def test_what_is_known_of_a_command_is_not_asked_of_its_likes():
    def never(texts):
        raise AssertionError(texts)

    assert learned(LikeContexts(never)).predict([Step("git pull")], None, 1)[0].command == "make deps"
    few = learned(LikeContexts(never), days=LEAST_STEPS // 8 - 1)
    assert few.predict([Step(NEW)], None, 1)  # a small history


def test_probabilities_sum_to_at_most_one_and_failures_are_not_suggested():
    model = learned(LikeContexts(vectors_of))
    for _ in range(30):
        model.learn([Step("cd web")], Step("npm tset", ok=False))
    found = model.predict([Step(NEW)], None, 50)
    assert "npm tset" not in [one.command for one in found]
    assert sum(one.probability for one in found) <= 1 + 1e-9
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)


def test_asking_in_between_changes_nothing_and_only_the_newest_are_compared():
    asked, whole = LikeContexts(vectors_of), LikeContexts(vectors_of)
    for number in range(2 * KEPT):
        place = PLACES[number * 7 % 4 if number < KEPT else 1]
        for one in (asked, whole):
            one.learn([place], number % 5 if number < KEPT else 9)
        if number % 997 == 0:
            asked.following([NEW])
    assert asked.following([NEW]) == whole.following([NEW])
    assert whole.following(["cd web"]) == ({}, 0.0)  # it ran too long ago
    shares, believed = whole.following(["cd api"])
    assert list(shares) == [9]
    assert shares[9].share == pytest.approx(1.0)
    assert 0.4 < believed <= 0.5


def test_what_is_like_nothing_or_has_no_vector_is_not_believed():
    likeness = LikeContexts(lambda texts: np.zeros((len(texts), 8), dtype=np.float32))
    for _ in range(LEAST_STEPS):
        likeness.learn(["ls"], 1)
        likeness.learn([], 2)
    assert likeness.following(["pwd"]) == ({}, 0.0)
    assert likeness.following([]) == ({}, 0.0)


class BrokenEmbedder(WordEmbedder):
    broken = False

    def embed(self, texts, role):
        if self.broken:
            raise EmbedderError("the model is gone")
        return super().embed(texts, role)


def test_a_memory_does_it_with_its_own_vectors_and_without_its_model_counts_answer(settings, tmp_path):
    pairs = [("deploy web now", "curl web"), ("build api image", "docker push"), ("edit notes", "wc notes")]
    lines = [text for _ in range(LEAST_STEPS // 5) for pair in pairs for text in pair]
    stamps = [1_700_000_000 + 4000 * (at // 2) + at % 2 for at in range(len(lines))]  # each pair is a session
    path = tmp_path / "history"
    path.write_text("".join(f": {stamp}:0;{line}\n" for stamp, line in zip(stamps, lines, strict=True)))
    embedder = BrokenEmbedder()
    with Memory(settings=settings, embedder=embedder) as memory:
        memory.ingest_history(path, shell="zsh")
        (best,) = memory.next_command(["ship web now"], k=1)
        assert (best.command, best.why) == (
            "curl web",
            "came after `deploy web now`, which is like `ship web now`",
        )
        embedder.broken = True
        assert memory.next_command(["ship web again"], k=3)
        assert "which is like" not in repr(memory.next_command(["ship web never"], k=9))
        assert memory.next_command(["build api image"], k=1)[0].command == "docker push"
