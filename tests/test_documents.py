"""Walking folders and reading files, on real files in a temporary folder."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from folder_cases import DEFAULT, failures, make, names
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.errors import SourceError
from omnimemory.records import Document, Failure
from omnimemory.sources import documents
from omnimemory.sources.documents import Found, Limits, SkippedError, read, walk


def found(path: Path) -> Found:
    [item] = walk(path, DEFAULT)
    assert isinstance(item, Found), item
    return item


def contents(path: Path, limits: Limits = DEFAULT) -> Document:
    return read(found(path), limits)


def test_a_walk_yields_files_sorted_by_name_with_what_tells_a_change(tmp_path):
    make(tmp_path, "b.txt", "a/z.md", "a/y.md", "c.txt")
    assert names(tmp_path) == ["a/y.md", "a/z.md", "b.txt", "c.txt"]
    item = found(tmp_path / "b.txt")
    status = (tmp_path / "b.txt").stat()
    assert item == Found(
        tmp_path.resolve() / "b.txt",
        (tmp_path.resolve() / "b.txt").as_posix(),
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
        status.st_dev,
    )


def test_a_walk_opens_no_file_but_ignore_files(tmp_path):
    make(tmp_path, "a.txt", "sub/b.md", "sub/c.bin")
    (tmp_path / ".gitignore").write_text("none\n")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from omnimemory.sources.documents import Limits, walk\n"
        f"root = {str(tmp_path)!r}\n"
        "list(walk(Path(root), Limits()))\n"  # warm: imports are done
        "opened = []\n"
        "def hook(event, args):\n"
        "    if event == 'open' and str(args[0]).startswith(root):\n"
        "        opened.append(Path(args[0]).name)\n"
        "sys.addaudithook(hook)\n"
        "list(walk(Path(root), Limits()))\n"
        "print(opened)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['.gitignore']"


def test_a_root_may_be_hidden_ignored_or_a_link(tmp_path):
    make(tmp_path, ".notes/a.txt", "node_modules/b.txt", "cache/CACHEDIR.TAG", "cache/c.txt")
    (tmp_path / "link").symlink_to(".notes")
    assert names(tmp_path / ".notes") == ["a.txt"]
    assert names(tmp_path / "node_modules") == ["b.txt"]
    assert "c.txt" in names(tmp_path / "cache")
    assert [item.uri for item in walk(tmp_path / "link", DEFAULT)] == [str(tmp_path.resolve() / ".notes/a.txt")]


def test_a_root_that_is_a_file_is_taken_even_if_it_is_ignored(tmp_path):
    make(tmp_path, ".secret.log")
    (tmp_path / ".gitignore").write_text("*\n")
    assert contents(tmp_path / ".secret.log").text == "words\n"


@pytest.mark.parametrize("name", ["missing", "file.txt/below"])
def test_a_root_that_is_not_there_is_an_error(tmp_path, name):
    make(tmp_path, "file.txt")
    [failure] = walk(tmp_path / name, DEFAULT)
    assert failure.error
    assert failure.reason.startswith("no such file or folder")
    assert failure.source == str(tmp_path.resolve() / name)


def test_special_files_are_reported_and_never_block(tmp_path):
    make(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.txt"))
        reported = failures(tmp_path)
    assert names(tmp_path) == ["a.txt"]
    assert {name: item.reason for name, item in reported.items()} == {
        "pipe.txt": "not a file but a FIFO (named pipe)",
        "s.txt": "not a file but a socket",
    }
    assert not any(item.error for item in reported.values())


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(device):
    [failure] = walk(Path(device), DEFAULT)
    assert failure == Failure(device, "not a file but a character device", error=False)


def test_a_file_that_became_a_fifo_after_the_walk_does_not_block(tmp_path):
    make(tmp_path, "a.txt")
    item = found(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(SkippedError, match="FIFO"):
        read(item, DEFAULT)


def test_a_file_that_became_a_link_after_the_walk_is_not_followed(tmp_path):
    make(tmp_path, "a.txt", "secret.txt")
    item = found(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").symlink_to("secret.txt")
    with pytest.raises(SourceError, match="symbolic link"):
        read(item, DEFAULT)


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    make(tmp_path, "x.txt/y.md")
    assert names(tmp_path) == ["x.txt/y.md"]
    item = found(tmp_path / "x.txt/y.md")
    (tmp_path / "x.txt/y.md").unlink()
    (tmp_path / "x.txt/y.md").mkdir()
    with pytest.raises(SkippedError, match="not a file but a folder"):
        read(item, DEFAULT)


def test_links_are_not_followed_and_only_those_out_of_the_root_are_reported(tmp_path):
    make(tmp_path, "root/a.txt", "root/sub/b.txt", "outside/c.txt")
    root = tmp_path / "root"
    for name, target in {
        "in-file": "a.txt",
        "in-folder": "sub",
        "out-file": "../outside/c.txt",
        "out-folder": "../outside",
        "gone": "nowhere",
        "self": "self",
    }.items():
        (root / name).symlink_to(target)
    assert names(root) == ["a.txt", "sub/b.txt"]
    reported = failures(root)
    assert {name: item.reason.split("(")[0].strip() for name, item in reported.items()} == {
        "out-file": "a symbolic link out of the folder",
        "out-folder": "a symbolic link out of the folder",
        "gone": "a symbolic link to nothing",
        "self": "a symbolic link to itself",
    }
    assert not any(item.error for item in reported.values())


def test_links_out_of_the_root_are_followed_when_asked_for(tmp_path):
    make(tmp_path, "root/a.txt", "outside/c.txt", "single.txt")
    root = tmp_path / "root"
    (root / "link").symlink_to("../outside")
    (root / "one.txt").symlink_to("../single.txt")
    (tmp_path / "outside/back").symlink_to("../root")
    (tmp_path / "outside/loop").symlink_to("../outside")
    limits = Limits(follow_symlinks=True)
    assert names(root, limits) == ["a.txt", "link/c.txt", "one.txt"]
    assert {name: item.reason for name, item in failures(root, limits).items()} == {
        "loop": "a folder seen before in this walk: a loop of links or mounts"
    }
    [one] = [item for item in walk(root, limits) if isinstance(item, Found) and item.uri.endswith("one.txt")]
    assert read(one, limits).text == "words\n"
    assert read(one, limits).uri == one.uri


def test_a_loop_of_links_as_root_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    [failure] = walk(tmp_path / "loop", DEFAULT)
    assert failure.error
    assert "symbolic link" in failure.reason


def test_folders_beyond_the_depth_limit_are_reported(tmp_path):
    make(tmp_path, "1/2/3/a.txt", "1/2/b.txt")
    assert names(tmp_path, Limits(max_depth=2)) == ["1/2/b.txt"]
    assert failures(tmp_path, Limits(max_depth=2))["3"].reason.startswith("deeper than 2 folders")
    assert names(tmp_path, Limits(max_depth=3)) == ["1/2/3/a.txt", "1/2/b.txt"]


@pytest.fixture
def abyss(tmp_path):
    """Return a maker of nested folders, and remove them after the test: shutil.rmtree cannot."""

    def dig(name: str, depth: int) -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth):  # by descriptors: the path is longer than the system calls accept
            os.mkdir(name, dir_fd=folder)
            inner = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(os.open("a.txt", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)

    yield dig
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_a_walk_deeper_than_the_recursion_limit_works(tmp_path, abyss):
    abyss("d", 1200)
    assert len(names(tmp_path, Limits(max_depth=10_000))) == 1


def test_a_path_too_long_for_the_system_is_an_error_and_the_walk_goes_on(tmp_path, abyss):
    abyss("d" * 200, 30)
    make(tmp_path, "z.txt")
    items = list(walk(tmp_path, DEFAULT))
    [failure] = [item for item in items if isinstance(item, Failure)]
    assert failure.error
    assert "too long" in failure.reason
    assert [Path(item.uri).name for item in items if isinstance(item, Found)] == ["z.txt"]


def test_a_sparse_file_over_the_limit_is_reported_without_reading_it(tmp_path):
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure = failures(tmp_path)["huge.txt"]
    assert failure == Failure(
        str(tmp_path.resolve() / "huge.txt"), "too large: 1,024.0 MiB, the limit is 32.0 MiB (max_bytes)", error=False
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_file_that_grew_over_the_limit_after_the_walk_is_skipped(tmp_path):
    make(tmp_path, "a.txt")
    item = found(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("x" * 2000)
    with pytest.raises(SkippedError, match=r"\(max_bytes\)$"):  # said before reading: not "growing"
        read(item, Limits(max_bytes=1000))


def test_a_file_that_grows_while_it_is_read_stops_at_the_limit(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 10)

    def growing(file: int, limit: int) -> bytes:
        with path.open("ab") as more:
            more.write(b"x" * 5000)
        return documents._fill(file, limit)

    with pytest.raises(SkippedError, match="growing"):
        documents._contents(path, 1000, growing)


CHANGES = {
    "appended to": lambda path: path.write_text("words\nmore\n"),
    "rewritten at the same length": lambda path: (path.write_text("WORDS\n"), os.utime(path, ns=(1, 1))),
    "replaced": lambda path: (path.with_suffix(".new").write_text("other\n"), path.with_suffix(".new").replace(path)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, change):
    make(tmp_path, "a.txt")
    path = tmp_path / "a.txt"

    def disturbed(file: int, limit: int) -> bytes:
        data = documents._fill(file, limit)
        change(path)
        return data

    assert documents._contents(path, 1000, disturbed) is None
    assert documents._contents(path, 1000, documents._fill) == path.read_bytes()


def test_a_file_that_changes_while_it_is_read_is_read_once_more(tmp_path):
    make(tmp_path, "a.txt")
    path = tmp_path / "a.txt"
    left = [1]

    def disturbed(file: int, limit: int) -> bytes:
        data = documents._fill(file, limit)
        if left:
            path.write_text("changed " * left.pop())
        return data

    assert documents._at_rest(path, 1000, disturbed) == b"changed "
    left += [5, 4, 3]
    with pytest.raises(SourceError, match="changed while it was read, twice") as caught:
        documents._at_rest(path, 1000, disturbed)
    assert not isinstance(caught.value, SkippedError)


def test_a_file_that_vanished_after_the_walk_is_an_error(tmp_path):
    make(tmp_path, "a.txt")
    item = found(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(SourceError, match="vanished") as caught:
        read(item, DEFAULT)
    assert not isinstance(caught.value, SkippedError)


def test_a_file_that_vanishes_while_it_is_read_is_an_error(tmp_path):
    make(tmp_path, "a.txt")
    path = tmp_path / "a.txt"

    def vanishing(file: int, limit: int) -> bytes:
        path.unlink()
        return documents._fill(file, limit)

    assert documents._contents(path, 1000, vanishing) is None


def test_reading_a_large_file_takes_all_of_it(tmp_path):
    text = "".join(f"line {number}\n" for number in range(200_000))
    (tmp_path / "a.txt").write_text(text)
    assert contents(tmp_path / "a.txt").text == text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_an_error(tmp_path):
    make(tmp_path, "closed.txt", "shut/a.txt", "open.txt")
    (tmp_path / "closed.txt").chmod(0)
    (tmp_path / "shut").chmod(0)
    try:
        reported = failures(tmp_path)
        assert reported["shut"].error
        assert "permission denied" in reported["shut"].reason
        with pytest.raises(SourceError, match="permission denied"):
            contents(tmp_path / "closed.txt")
        assert names(tmp_path) == ["closed.txt", "open.txt"]
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_permission_errors_say_what_to_do():
    assert "make it readable" in documents._reason(PermissionError(errno.EACCES, "Permission denied"))
    assert documents._reason(OSError(errno.EIO, "Input/output error")) == "cannot be read: Input/output error"


def test_names_that_are_not_utf8_survive_as_printable_uris(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"words\n")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    [item] = walk(tmp_path, DEFAULT)
    assert item.uri == f"{tmp_path.resolve().as_posix()}/caf\\xe9.txt"
    item.uri.encode()
    assert read(item, DEFAULT).text == "words\n"


@pytest.mark.parametrize("name", ["a\\b.txt", "new\nline.txt", "ünïcödé 漢字.txt", "*[x]?.txt", " spaced .txt"])
def test_unusual_names_are_kept_as_they_are(tmp_path, name):
    make(tmp_path, name)
    assert names(tmp_path) == [name]
    assert contents(tmp_path / name).uri == f"{tmp_path.resolve().as_posix()}/{name}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.PNG", "an image"), ("b.tar.gz", "an archive"), ("c.pdf", "no reader yet"), ("d.sqlite3", "a database")],
)
def test_what_is_no_text_by_its_name_is_reported_without_opening_it(tmp_path, name, kind):
    make(tmp_path, name)
    failure = failures(tmp_path)[name]
    assert kind in failure.reason
    assert not failure.error


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xff\xfe", "\u3000\u00a0\n".encode()])
def test_a_file_without_text_is_skipped_as_empty(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(SkippedError, match="empty"):
        contents(tmp_path / "a.txt")


def test_limits_of_size_hold_for_what_a_compressed_file_unpacks_to(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(os.urandom(3000).hex().encode()))
    with pytest.raises(SkippedError, match="unpacks to more than the limit"):
        contents(tmp_path / "a.txt.gz", Limits(max_bytes=5000))
    assert len(contents(tmp_path / "a.txt.gz").text) == 6000


@given(
    data=st.binary(max_size=300), name=st.sampled_from(["a.txt", "a.md", "a.html", "a.rst", "a.py", "a.1", "a.ipynb"])
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_storable_document_or_a_reason(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        document = contents(path)
    except SourceError as error:
        reason = str(error)
    else:
        reason = ""
        document.text.encode()  # no lone surrogates
        assert "\0" not in document.text
        assert document.text.strip()
        for heading in document.headings:
            heading.title.encode()
            assert 0 <= heading.start < len(document.text)
    assert reason or document.uri
