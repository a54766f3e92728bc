"""Pulling a model from a folder: checked, described, never half there. Packages and hubs: see the files beside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pull_cases import NAMES, card_of, flip
from store_cases import wait_until

from omnimemory.embedders.installed import find_installed, installed_models
from omnimemory.embedders.model_sources import FolderSource
from omnimemory.embedders.models import ModelCard
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.pull import pull_model, remove_model, usual_sources
from omnimemory.errors import EmbedderError, StoreFullError
from omnimemory.records import Progress
from tools.tiny_encoders import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def card(origin) -> ModelCard:
    return card_of(origin, aliases=("little",), dims=(32,))


def modes(root: Path) -> set[str]:
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in root.rglob("*") if path.is_file()}


def test_a_model_is_copied_from_a_folder_checked_and_described(card, origin, tmp_path):
    seen = []
    made = pull_model(card, tmp_path / "models", usual_sources(card, origin), progress=seen.append)
    assert made.folder == tmp_path / "models" / "tiny"
    assert {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()} == {
        *NAMES,
        "manifest.json",
    }
    assert modes(made.folder) == {"0o600"}
    assert (made.card.dim, made.card.dims, made.origin) == (64, (32,), str(origin))
    assert [(told.done, told.total) for told in seen if told.stage == "pull"] == [(n, 4) for n in range(5)]
    assert find_installed(tmp_path / "models", "little") == made
    assert installed_models(tmp_path / "models") == [made]
    made.check(read=True)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_pulled_model_is_the_space_of_its_files(card, origin, tmp_path):
    made = pull_model(card, tmp_path / "models", [FolderSource(origin)])
    pulled = OnnxEmbedder.of_installed(made)
    assert pulled.fingerprint == OnnxEmbedder(made.folder).fingerprint
    assert pulled.name == "onnx:tiny@float32"
    assert pulled.embed(["undo"], "query").shape == (1, 64)
    assert OnnxEmbedder.of_installed(replace(made, card=replace(card, precision="int8"))).name == "onnx:tiny@int8"


def test_small_files_are_taken_along_when_not_every_sha256_is_known(card, origin, tmp_path):
    unknown = replace(card, files={"model.safetensors": "", "tokenizer.json": "", "config.json": ""})
    made = pull_model(unknown, tmp_path / "models", [FolderSource(origin)])
    assert {"modules.json", "sentence_bert_config.json", "1_Pooling/config.json"} <= made.files.keys()
    assert all(len(record.sha256) == 64 for record in made.files.values())


def test_a_model_that_is_here_is_not_fetched_again_and_a_damaged_one_is(card, origin, tmp_path):
    root = tmp_path / "models"
    made = pull_model(card, root, [FolderSource(origin)])
    assert pull_model(card, root, []) == made
    flip(made.folder / "model.safetensors")
    with pytest.raises(
        EmbedderError, match=r"not the file that was pulled. Pull it again: omnimemory models pull tiny"
    ):
        made.check()
    assert pull_model(card, root, [FolderSource(origin)]).files.keys() == made.files.keys()
    made = find_installed(root, "tiny")
    made.check(read=True)


def test_one_changed_byte_without_a_new_time_is_found_by_reading(card, origin, tmp_path):
    made = pull_model(card, tmp_path / "models", [FolderSource(origin)])
    path = made.folder / "tokenizer.json"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    made.check()
    with pytest.raises(EmbedderError, match=r"tokenizer.json is not the file"):
        made.check(read=True)


def test_a_copy_with_other_times_is_the_same_model(card, origin, tmp_path):
    made = pull_model(card, tmp_path / "models", [FolderSource(origin)])
    for name in made.files:
        os.utime(made.folder / name, ns=(0, 0))
    made.check()
    (made.folder / "config.json").unlink()
    with pytest.raises(EmbedderError, match=r"config.json cannot be read \(No such file"):
        made.check()


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_byte_is_refused_and_nothing_is_installed(card, origin, tmp_path, name):
    wrong = tmp_path / "wrong"
    shutil.copytree(origin, wrong)
    flip(wrong / name)
    with pytest.raises(EmbedderError, match=f"{name} has the sha256 .* is expected: it was refused"):
        pull_model(card, tmp_path / "models", [FolderSource(wrong)])
    assert installed_models(tmp_path / "models") == []
    # The next source does, and what was right of the first is kept.
    assert pull_model(card, tmp_path / "models", [FolderSource(wrong), FolderSource(origin)]).origin == str(origin)


def test_every_source_says_why_it_did_not_do(card, origin, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbedderError) as caught:
        pull_model(card, tmp_path / "models", [FolderSource(tmp_path / "absent"), FolderSource(tmp_path / "empty")])
    message = str(caught.value)
    assert "absent: there is no such folder" in message
    assert "empty: it has no file model.safetensors" in message
    assert "omnimemory models pull tiny --from FOLDER" in message
    with pytest.raises(EmbedderError, match="No source is known"):
        pull_model(card, tmp_path / "models", usual_sources(card))


def test_a_model_of_another_size_than_the_table_says_is_not_installed(card, origin, tmp_path):
    with pytest.raises(EmbedderError, match="its vectors have 64 numbers; 65 stand in the table of models, as dim"):
        pull_model(replace(card, dim=65), tmp_path / "models", [FolderSource(origin)])
    assert installed_models(tmp_path / "models") == []


def test_files_that_are_no_model_are_not_installed(card, origin, tmp_path):
    bad = tmp_path / "bad"
    write_tiny_encoder(bad)
    (bad / "config.json").write_text('{"model_type": "gemma3", "hidden_size": 64}')
    unknown = replace(card, files={"model.safetensors": "", "tokenizer.json": "", "config.json": ""})
    with pytest.raises(EmbedderError, match="of the kind 'gemma3'"):
        pull_model(unknown, tmp_path / "models", [FolderSource(bad)])
    assert installed_models(tmp_path / "models") == []


def test_removing_a_model_frees_what_it_says(card, origin, tmp_path):
    root = tmp_path / "models"
    made = pull_model(card, root, [FolderSource(origin)])
    loaded = OnnxEmbedder.of_installed(made)
    before = loaded.embed(["undo"], "document")
    assert remove_model(root, made) == sum((origin / name).stat().st_size for name in NAMES)
    assert installed_models(root) == []
    assert sorted(path.name for path in root.iterdir()) == [".tiny.lock"]
    # Who has it loaded goes on.
    assert (loaded.embed(["undo"], "document") == before).all()


def test_a_folder_that_cannot_be_written_is_told(card, origin, tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(EmbedderError, match=r"folder of models .* cannot be written"):
        pull_model(card, tmp_path / "models", [FolderSource(origin)])


def test_a_disk_without_room_is_told_before_anything_is_fetched(card, origin, tmp_path):
    large = replace(card, bytes=1 << 60)
    with pytest.raises(
        StoreFullError, match=r"no room for tiny in .* 1,099,511,627,776 MiB are needed, [\d,]+ are free"
    ):
        pull_model(large, tmp_path / "models", [FolderSource(origin)])
    assert not list((tmp_path / "models").rglob("*.safetensors"))


class Trickling:
    """A source that gives the weights, and goes on once it was told how much has come."""

    name = "a slow line"

    def __init__(self, origin: Path) -> None:
        self.origin, self.told = origin, threading.Event()

    @contextlib.contextmanager
    def opened(self, work):
        yield self.fetch

    def fetch(self, name, target):
        if name == "model.safetensors":
            target.write_bytes(bytes(3 << 20))
            assert self.told.wait(60)
        shutil.copyfile(self.origin / name, target)


def test_what_has_come_of_a_large_file_is_told_while_it_comes(card, origin, tmp_path):
    source, seen = Trickling(origin), []

    def progress(told):
        seen.append(told)
        if told.stage == "download" and told.done:
            source.told.set()

    pull_model(replace(card, bytes=5 << 20), tmp_path / "models", [source], progress=progress)
    assert Progress("download", 3, 5, "MiB") in seen


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 9}', '{"format": 1, "card": {}, "files": {}, "origin": ""}'])
def test_a_damaged_manifest_is_told_with_the_fix(card, origin, tmp_path, damage):
    made = pull_model(card, tmp_path / "models", [FolderSource(origin)])
    (made.folder / "manifest.json").write_text(damage)
    with pytest.raises(EmbedderError, match=r"Remove the folder .* and pull the model again"):
        find_installed(tmp_path / "models", "tiny")
    assert pull_model(card, tmp_path / "models", [FolderSource(origin)]) == find_installed(tmp_path / "models", "tiny")


PULL = """
import sys, time
from pathlib import Path
from omnimemory.embedders import pull
from omnimemory.embedders.model_sources import FolderSource
from pull_cases import card_of
origin, root = map(Path, sys.argv[1:])
real = pull._one_file
def told(*arguments):
    print("file", flush=True)
    return real(*arguments)
pull._one_file = told
pull.pull_model(card_of(origin), root, [FolderSource(origin)])
"""


@pytest.mark.parametrize("after", range(1, 5))
def test_a_pull_that_is_killed_leaves_no_half_model_and_goes_on(origin, tmp_path, after):
    root = tmp_path / "models"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    child = subprocess.Popen(
        [sys.executable, "-c", PULL, str(origin), str(root)], stdout=subprocess.PIPE, text=True, env=environment
    )
    for _ in range(after):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for model in installed_models(root):  # it may have been done already
        model.check(read=True)
    pull_model(card_of(origin), root, [FolderSource(origin)]).check(read=True)


def test_who_waits_for_another_pull_is_told_so(card, origin, tmp_path, caplog):
    root = tmp_path / "models"
    root.mkdir()
    with ThreadPoolExecutor(1) as beside, (root / ".tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = beside.submit(pull_model, card, root, [FolderSource(origin)])
        wait_until(lambda: "Another process is at work on tiny" in caplog.text)
        assert not waiting.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.result(60).card.name == "tiny"


def test_two_pulls_at_once_make_one_model(origin, tmp_path):
    root = tmp_path / "models"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", PULL, str(origin), str(root)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    installed_models(root)[0].check(read=True)
    assert sorted(path.name for path in root.iterdir()) == [".tiny.lock", "tiny"]
