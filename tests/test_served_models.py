"""What is remembered of a server's model, and what happens when another one answers to its name."""

import json

import pytest
from fake_ollama import FakeModel, FakeOllama
from served_cases import ollama

from omnimemory.errors import ModelChangedError, ModelNotFoundError, ModelServerError


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def embedder_of(server):
    made = []

    def make(*arguments, **options):
        made.append(ollama(server, *arguments, **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def test_a_model_that_was_met_is_known_while_the_server_is_down(server, embedder_of, tmp_path):
    first = embedder_of(folder=tmp_path)
    fingerprint = first.fingerprint
    server.stop()
    again = embedder_of(folder=tmp_path)
    assert (again.fingerprint, again.dim, again.loaded) == (fingerprint, 32, False)
    with pytest.raises(ModelServerError, match="ollama serve"):
        again.embed(["text"], "query")
    with pytest.raises(ModelServerError, match="ollama serve"):
        _ = embedder_of("never-met", folder=tmp_path).fingerprint
    server.start()
    assert again.embed(["text"], "query").shape == (1, 32)


def test_what_is_remembered_is_private_and_holds_no_text_of_the_user(embedder_of, tmp_path):
    folder = tmp_path / "servers"
    embedder_of(folder=folder).embed(["a very private text"], "document")
    [file] = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert "private" not in file.read_text()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 99}', b"\xff", b"[" * 100_000, b'{"faces": [1]}'])
def test_a_damaged_memory_of_a_model_is_told_and_made_anew(embedder_of, tmp_path, caplog, damage):
    fingerprint = embedder_of(folder=tmp_path).fingerprint
    [file] = tmp_path.iterdir()
    file.write_bytes(damage)
    assert embedder_of(folder=tmp_path).fingerprint == fingerprint
    assert "cannot be read" in caplog.text
    assert json.loads(file.read_bytes())["faces"]


def test_a_memory_that_cannot_be_written_is_told_and_hinders_nobody(embedder_of, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert embedder_of(folder=tmp_path / "file").embed(["text"], "query").shape == (1, 32)
    assert "cannot be kept" in caplog.text


def test_the_same_weights_with_a_new_digest_are_the_same_space(server, embedder_of, tmp_path):
    fingerprint = embedder_of(folder=tmp_path).fingerprint
    server.models["tiny:latest"].digest = "sha256:" + "d" * 64
    again = embedder_of(folder=tmp_path)
    again.embed(["text"], "query")
    assert again.fingerprint == fingerprint
    before = len(server.bodies("/api/embed"))
    embedder_of(folder=tmp_path).embed(["text"], "query")
    assert len(server.bodies("/api/embed")) == before + 1  # the new digest is known from now on


def test_other_weights_under_the_same_name_stop_everything_and_are_another_space(server, embedder_of, tmp_path):
    old = embedder_of(folder=tmp_path)
    fingerprint = old.fingerprint
    was, server.models["tiny:latest"] = server.models["tiny:latest"], FakeModel(salt="new", digest="e" * 64)
    changed = embedder_of(folder=tmp_path)
    assert changed.fingerprint == fingerprint
    for _ in range(2):
        with pytest.raises(ModelChangedError, match="not the model it was"):
            changed.embed(["text"], "document")
    new = embedder_of(folder=tmp_path)
    assert new.fingerprint != fingerprint
    new.embed(["text"], "document")
    server.models["tiny:latest"] = was
    with pytest.raises(ModelChangedError):
        embedder_of(folder=tmp_path).embed(["text"], "document")
    assert embedder_of(folder=tmp_path).fingerprint == fingerprint


def test_other_weights_that_hide_behind_the_old_digest_are_noticed_with_the_first_text(server, embedder_of, tmp_path):
    _ = embedder_of(folder=tmp_path).fingerprint
    server.models["tiny:latest"].salt = "changed in secret"
    with pytest.raises(ModelChangedError):
        embedder_of(folder=tmp_path).embed(["text"], "query")


def test_one_wrong_answer_does_not_make_another_model(server, embedder_of, tmp_path):
    fingerprint = embedder_of(folder=tmp_path).fingerprint
    server.models["tiny:latest"].digest = "sha256:" + "f" * 64
    server.faults.append("other-model")
    embedder = embedder_of(folder=tmp_path)
    with pytest.raises(ModelServerError, match="another vector every time"):
        embedder.embed(["text"], "query")
    assert embedder.embed(["text"], "query").shape == (1, 32)
    assert embedder_of(folder=tmp_path).fingerprint == fingerprint


def test_a_missing_model_names_the_nearest(server, embedder_of):
    with pytest.raises(ModelNotFoundError, match=r"There is tiny.*ollama pull tinny"):
        embedder_of("tinny").embed(["text"], "query")
