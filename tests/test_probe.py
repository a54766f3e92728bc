"""Fake /proc and /sys trees with known answers, then the real machine."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.scheduler.probe import Probe, available

GIB = 1 << 30
KIB = 1 << 10
PAGE = os.sysconf("SC_PAGE_SIZE")
NO_LIMIT_V1 = 9223372036854771712
UNLIMITED = {resource.RLIMIT_AS: -1, resource.RLIMIT_DATA: -1}
ROOT = Path(__file__).resolve().parents[1]

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"


def meminfo(available=180 * GIB, total=256 * GIB, free=90 * GIB, swap=64 * GIB):
    fields = {"MemTotal": total, "MemFree": free, "MemAvailable": available, "SwapTotal": swap, "SwapFree": swap}
    return "".join(f"{name + ':':<16}{size // KIB:>9} kB\n" for name, size in fields.items())


def build(root, membership="", mounts="", files=None, *, memory=None, statm=None):
    """Write a tree; the values of ``files`` are contents, or None for a directory in the place of the file."""
    tree = {
        "proc/meminfo": meminfo() if memory is None else memory,
        "proc/self/statm": "262144 65536 16384 500 0 131072 0\n" if statm is None else statm,
        "proc/self/cgroup": membership,
        "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw\n" + mounts,
        **(files or {}),
    }
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return root


def probe(root, limits=UNLIMITED):
    return Probe(root, getrlimit=lambda which: (limits[which], -1))()


def v2(folder, limit, current=0, inactive_file=0, *, slab=0, high="max"):
    base = f"sys/fs/cgroup{folder}"
    stat = f"anon {current // 2}\nfile {inactive_file}\ninactive_file {inactive_file}\nslab_reclaimable {slab}\n"
    values = {"memory.max": limit, "memory.high": high, "memory.current": current, "memory.stat": stat}
    return {f"{base}/{name}": value for name, value in values.items()}


def v1(folder, limit, usage=0, total_inactive_file=0):
    base = f"sys/fs/cgroup/memory{folder}"
    stat = f"cache {usage}\ninactive_file 1\ntotal_rss {usage}\ntotal_inactive_file {total_inactive_file}\n"
    values = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage, "memory.stat": stat}
    return {f"{base}/{name}": value for name, value in values.items()}


TREES = {
    "docker-v2-4-gib-with-page-cache": (
        "0::/\n",
        V2_MOUNT,
        v2("", 4 * GIB, 3 * GIB, inactive_file=GIB // 2, slab=GIB // 2),
        (2 * GIB, "cgroup2:/", 4 * GIB),
    ),
    "docker-v2-without-limit": ("0::/\n", V2_MOUNT, v2("", "max", 3 * GIB), (180 * GIB, "MemAvailable", 256 * GIB)),
    "v2-root-has-no-limit-file": ("0::/\n", V2_MOUNT, {}, (180 * GIB, "MemAvailable", 256 * GIB)),
    "high-below-max-counts": (
        "0::/a\n",
        V2_MOUNT,
        v2("/a", 4 * GIB, GIB, high=3 * GIB),
        (2 * GIB, "cgroup2:/a", 3 * GIB),
    ),
    "systemd-slice-two-levels-up": (
        "0::/user.slice/user-1000.slice/session-2.scope\n",
        V2_MOUNT,
        {
            **v2("/user.slice/user-1000.slice/session-2.scope", "max", GIB),
            **v2("/user.slice/user-1000.slice", "max", GIB),
            **v2("/user.slice", 8 * GIB, 7 * GIB, inactive_file=GIB),
        },
        (2 * GIB, "cgroup2:/user.slice", 8 * GIB),
    ),
    "the-tightest-ancestor-wins-not-the-nearest": (
        "0::/a/b\n",
        V2_MOUNT,
        {**v2("/a/b", 4 * GIB, GIB), **v2("/a", 6 * GIB, 5 * GIB)},
        (GIB, "cgroup2:/a", 4 * GIB),
    ),
    "full-group-has-no-room": ("0::/a\n", V2_MOUNT, v2("/a", GIB, 2 * GIB), (0, "cgroup2:/a", GIB)),
    "v1-2-gib": (
        "4:memory:/\n",
        V1_MOUNT,
        v1("", 2 * GIB, GIB, total_inactive_file=GIB // 4),
        (2 * GIB - GIB * 3 // 4, "cgroup1:/", 2 * GIB),
    ),
    "v1-without-limit": ("4:memory:/\n", V1_MOUNT, v1("", NO_LIMIT_V1, GIB), (180 * GIB, "MemAvailable", 256 * GIB)),
    "v1-joined-controllers-and-a-colon": (
        "7:cpu,memory:/lxc/a:b\n",
        V1_MOUNT.replace("rw,memory", "rw,cpu,memory"),
        v1("/lxc/a:b", 2 * GIB, GIB),
        (GIB, "cgroup1:/lxc/a:b", 2 * GIB),
    ),
    "docker-v1-mount-shows-only-its-own-group": (
        "4:memory:/docker/abc\n",
        V1_MOUNT.replace("0:32 / ", "0:32 /docker/abc "),
        v1("", 2 * GIB, GIB),
        (GIB, "cgroup1:/", 2 * GIB),
    ),
    "a-group-inside-the-mounted-one": (
        "0::/docker/abc/child\n",
        V2_MOUNT.replace("0:26 / ", "0:26 /docker/abc "),
        {**v2("/child", 3 * GIB, GIB), **v2("", 8 * GIB, GIB)},
        (2 * GIB, "cgroup2:/child", 3 * GIB),
    ),
    "of-two-mounts-the-one-that-shows-more-ancestors": (
        "0::/a/b\n",
        V2_MOUNT.replace("/ /sys/fs/cgroup ", "/a/b /mnt ") + V2_MOUNT,
        v2("/a", GIB),
        (GIB, "cgroup2:/a", GIB),
    ),
    "path-from-another-namespace": (
        "0::/../other\n",
        V2_MOUNT,
        {**v2("", 2 * GIB, GIB), "sys/fs/other/memory.max": 1, "sys/fs/other/memory.current": 0},
        (GIB, "cgroup2:/", 2 * GIB),
    ),
    "mount-from-another-namespace": (
        "0::/../other/x\n",
        V2_MOUNT.replace("0:26 / ", "0:26 /../other "),
        v2("/x", 2 * GIB, GIB),
        (GIB, "cgroup2:/x", 2 * GIB),
    ),
    "path-outside-the-mounted-root": (
        "0::/\n",
        V2_MOUNT.replace("0:26 / ", "0:26 /docker/abc "),
        v2("", 2 * GIB, GIB),
        (GIB, "cgroup2:/", 2 * GIB),
    ),
    "hybrid-v1-limits-v2-names": (
        "4:memory:/box/1\n1:name=systemd:/x\n0::/box/1\n",
        V1_MOUNT + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
        {**v1("/box/1", NO_LIMIT_V1, GIB), **v1("/box", 4 * GIB, GIB), "sys/fs/cgroup/unified/box/1/cgroup.procs": "1"},
        (3 * GIB, "cgroup1:/box", 4 * GIB),
    ),
    "blank-and-backslash-in-the-mount-point": (
        "0::/a b\n",
        V2_MOUNT.replace("/sys/fs/cgroup", r"/sys/fs/my\040groups\134x"),
        {"sys/fs/my groups\\x/a b/memory.max": 2 * GIB, "sys/fs/my groups\\x/a b/memory.current": GIB},
        (GIB, "cgroup2:/a b", 2 * GIB),
    ),
    "a-removed-group-leaves-its-ancestors": (
        "0::/a/gone (deleted)\n",
        V2_MOUNT,
        v2("/a", 2 * GIB, GIB),
        (GIB, "cgroup2:/a", 2 * GIB),
    ),
    "no-control-groups-at-all": ("", "", {}, (180 * GIB, "MemAvailable", 256 * GIB)),
}


@pytest.mark.parametrize(("membership", "mounts", "files", "expected"), TREES.values(), ids=TREES)
def test_the_tightest_limit_of_the_tree_is_found(tmp_path, membership, mounts, files, expected):
    found = probe(build(tmp_path, membership, mounts, files))
    assert (found.bytes, found.source, found.total) == expected


@pytest.mark.parametrize("swap", [0, 512 * GIB], ids=["no-swap", "much-swap"])
def test_swap_is_never_room(tmp_path, swap):
    assert probe(build(tmp_path, memory=meminfo(swap=swap))).bytes == 180 * GIB


BROKEN_GROUPS = {
    "limit-is-a-word": ({"memory.max": "lots"}, 180 * GIB),
    "limit-is-negative": ({"memory.max": "-1"}, 180 * GIB),
    "limit-is-empty": ({"memory.max": ""}, 180 * GIB),
    "limit-is-unreadable": ({"memory.max": None}, 180 * GIB),
    "max-is-broken-but-high-stands": ({"memory.max": "lots", "memory.high": 3 * GIB}, 2 * GIB),
    "usage-is-a-word": ({"memory.current": "much"}, 4 * GIB - GIB),
    "usage-is-negative": ({"memory.current": "-4096"}, 4 * GIB - GIB),
    "usage-is-absurd": ({"memory.current": "9" * 30}, 4 * GIB - GIB),
    "usage-is-missing": ({"memory.current": ...}, 4 * GIB - GIB),
    "usage-and-stat-are-unreadable": ({"memory.current": None, "memory.stat": None}, 0),
    "usage-is-unreadable-and-stat-tells-only-the-cache": (
        {"memory.current": None, "memory.stat": f"inactive_file {GIB}\n"},
        0,
    ),
    "stat-is-missing": ({"memory.stat": ...}, 3 * GIB),
    "stat-is-negative": ({"memory.stat": "inactive_file -1\n"}, 3 * GIB),
    "more-cache-than-use": ({"memory.stat": f"inactive_file {2 * GIB}\n"}, 3 * GIB),
    "cache-is-absurd": ({"memory.stat": f"inactive_file {'9' * 30}\n"}, 3 * GIB),
}


@pytest.mark.parametrize(("broken", "expected"), BROKEN_GROUPS.values(), ids=BROKEN_GROUPS)
def test_a_broken_group_file_is_flagged_and_never_makes_room(tmp_path, broken, expected):
    files = {
        **v2("/a", 4 * GIB, GIB),
        "sys/fs/cgroup/a/memory.stat": f"anon {GIB // 2}\nfile {GIB // 2}\ninactive_file 0\n",
    }
    for name, value in broken.items():
        files[f"sys/fs/cgroup/a/{name}"] = value
    files = {name: value for name, value in files.items() if value is not ...}
    found = probe(build(tmp_path, "0::/a\n", V2_MOUNT, files))
    assert found.bytes == expected
    assert [reading.source for reading in found.readings if reading.note] == ["cgroup2:/a"]


def test_a_missing_mount_table_is_flagged_and_the_usual_places_are_read(tmp_path):
    root = build(tmp_path, "0::/a\n4:memory:/b\n", "", {**v2("/a", 3 * GIB, GIB), **v1("/b", 2 * GIB, GIB)})
    (root / "proc/self/mountinfo").unlink()
    found = probe(root)
    assert (found.bytes, found.source) == (GIB, "cgroup1:/b")
    assert any("mountinfo" in reading.note for reading in found.readings)


def test_an_unreadable_membership_is_flagged(tmp_path):
    root = build(tmp_path, "0::/a\n", V2_MOUNT, v2("/a", 3 * GIB, GIB))
    (root / "proc/self/cgroup").unlink()
    (root / "proc/self/cgroup").mkdir()
    found = probe(root)
    assert found.bytes == 180 * GIB
    assert [reading.source for reading in found.readings if reading.note] == ["cgroup"]


def test_a_damaged_mount_table_does_no_harm(tmp_path):
    junk = "x\n1 2 3 - cgroup2\n - - -\n\n9 9 0:9 /\\777 /q\\ rw - cgroup2 c rw\n"
    found = probe(build(tmp_path, "0::/a\nnonsense\n", junk + V2_MOUNT, v2("/a", 3 * GIB, GIB)))
    assert (found.bytes, found.source) == (2 * GIB, "cgroup2:/a")


BROKEN_MEMINFO = {
    "available-missing": ("MemTotal: 1000 kB\nMemFree: 300 kB\n", (300 * KIB, "MemFree")),
    "available-negative": ("MemTotal: 1000 kB\nMemAvailable: -5 kB\nMemFree: 300 kB\n", (300 * KIB, "MemFree")),
    "available-above-total": ("MemTotal: 1000 kB\nMemAvailable: 1001 kB\nMemFree: 300 kB\n", (300 * KIB, "MemFree")),
    "available-is-a-word": ("MemTotal: 1000 kB\nMemAvailable: ok kB\nMemFree: 300 kB\n", (300 * KIB, "MemFree")),
    "all-free-figures-bad": ("MemTotal: 1000 kB\nMemAvailable: -5 kB\nMemFree: 2000 kB\n", (0, "unknown")),
    "total-missing": ("MemAvailable: 500 kB\nMemFree: 300 kB\n", (0, "unknown")),
    "total-zero": ("MemTotal: 0 kB\nMemAvailable: 0 kB\n", (0, "unknown")),
    "total-absurd": (f"MemTotal: {'9' * 25} kB\nMemAvailable: 500 kB\n", (0, "unknown")),
    "empty-file": ("", (0, "unknown")),
    "binary-file": (b"\xff\x00MemTotal\xff", (0, "unknown")),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN_MEMINFO.values(), ids=BROKEN_MEMINFO)
def test_broken_meminfo_falls_back_is_flagged_and_never_unlimited(tmp_path, content, expected):
    found = probe(build(tmp_path, memory=content))
    assert (found.bytes, found.source) == expected
    assert found.readings[0].note


def test_nothing_to_read_is_unknown_with_no_bytes(tmp_path):
    found = probe(tmp_path, limits={resource.RLIMIT_AS: 8 * GIB, resource.RLIMIT_DATA: -1})
    assert (found.bytes, found.source, found.total) == (0, "unknown", 0)


def test_a_group_stands_in_where_the_machine_cannot_be_read(tmp_path):
    found = probe(build(tmp_path, "0::/a\n", V2_MOUNT, v2("/a", 3 * GIB, GIB), memory="nonsense"))
    assert (found.bytes, found.source, found.total) == (2 * GIB, "cgroup2:/a", 3 * GIB)
    assert found.readings[0].bytes is None
    assert "MemTotal" in found.readings[0].note or "number" in found.readings[0].note


@pytest.mark.parametrize(
    ("which", "limit", "used_pages"),
    [("RLIMIT_AS", 8 * GIB, 262144), ("RLIMIT_DATA", 4 * GIB, 131072)],
)
def test_a_process_limit_counts_less_what_is_mapped(tmp_path, which, limit, used_pages):
    found = probe(build(tmp_path), limits={**UNLIMITED, getattr(resource, which): limit})
    assert (found.bytes, found.source, found.total) == (limit - used_pages * PAGE, which, limit)


def test_a_process_limit_without_known_use_leaves_no_room(tmp_path):
    root = build(tmp_path, statm="garbage")
    assert probe(root).bytes == 180 * GIB
    found = probe(root, limits={**UNLIMITED, resource.RLIMIT_AS: 8 * GIB})
    assert (found.bytes, found.source) == (0, "RLIMIT_AS")
    assert "size of this process" in found.readings[-1].note


def test_used_is_what_is_resident_and_not_shared(tmp_path):
    assert probe(build(tmp_path)).used == (65536 - 16384) * PAGE


def test_moving_to_another_group_is_noticed(tmp_path):
    root = build(tmp_path, "0::/a\n", V2_MOUNT, {**v2("/a", 3 * GIB, GIB), **v2("/b", 2 * GIB, GIB)})
    check = Probe(root, getrlimit=lambda _: (-1, -1))
    assert check().source == "cgroup2:/a"
    (root / "proc/self/cgroup").write_text("0::/b\n")
    assert check().source == "cgroup2:/b"


def test_each_check_reads_the_figures_again(tmp_path):
    root = build(tmp_path, "0::/a\n", V2_MOUNT, v2("/a", 4 * GIB, GIB))
    check = Probe(root, getrlimit=lambda _: (-1, -1))
    assert check().bytes == 3 * GIB
    (root / "sys/fs/cgroup/a/memory.current").write_text(str(3 * GIB))
    assert check().bytes == GIB


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such a name")
def test_a_group_name_that_is_not_utf8_can_be_written_as_json(tmp_path):
    mounts = V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/g")
    found = probe(build(tmp_path, b"0::/caf\xe9\n", mounts, {"sys/fs/g/memory.max": GIB, "sys/fs/g/memory.current": 0}))
    assert found.source == "cgroup2:/"
    folder = tmp_path / os.fsdecode(b"sys/fs/g/caf\xe9")
    folder.mkdir()
    (folder / "memory.max").write_text("5")
    (folder / "memory.current").write_text("0")
    source = probe(tmp_path).source
    assert source == r"cgroup2:/caf\xe9"
    assert json.dumps(source, ensure_ascii=False).encode()


JUNK = st.sampled_from(["max", "", "-1", "0", "4096", str(GIB), str(3 * GIB), str(NO_LIMIT_V1), "9" * 30, "x", "1.5"])


@settings(deadline=None, max_examples=60)
@given(
    files=st.dictionaries(
        st.tuples(st.sampled_from(["/a/b", "/a", ""]), st.sampled_from(["max", "high", "current"])), JUNK
    ),
    stat=st.lists(st.tuples(st.sampled_from(["inactive_file", "slab_reclaimable", "anon"]), JUNK), max_size=3),
    memory=st.lists(st.tuples(st.sampled_from(["MemTotal", "MemFree", "MemAvailable"]), JUNK), max_size=4),
    limit=st.sampled_from([-1, 0, GIB, NO_LIMIT_V1]),
)
def test_whatever_the_sensors_say_the_answer_is_bounded(files, stat, memory, limit):
    tree = {f"sys/fs/cgroup{folder}/memory.{name}": value for (folder, name), value in files.items()}
    tree["sys/fs/cgroup/a/memory.stat"] = "".join(f"{name} {value}\n" for name, value in stat)
    text = "".join(f"{name}: {value} kB\n" for name, value in memory)
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder), "0::/a/b\n", V2_MOUNT, tree, memory=text)
        found = probe(root, limits={**UNLIMITED, resource.RLIMIT_AS: limit})
    assert 0 <= found.bytes <= found.total < 1 << 60
    assert (found.source == "unknown") == all(r.bytes is None for r in found.readings if "RLIMIT" not in r.source)
    if found.source != "unknown":
        assert all(found.bytes <= r.bytes <= r.total for r in found.readings if r.bytes is not None)


def test_the_real_machine_has_memory_and_names_the_source():
    found = available()
    assert 0 < found.bytes <= found.total
    assert found.source in {reading.source for reading in found.readings}
    assert found.source != "unknown"
    assert 0 < found.used < found.total


def test_the_real_machine_agrees_with_psutil():
    import psutil

    reading = available().readings[0]
    assert reading.total == psutil.virtual_memory().total
    assert abs(reading.bytes - psutil.virtual_memory().available) < reading.total / 4


def test_psutil_is_a_source_of_its_own_for_the_real_machine():
    reading = Probe()._psutil("meminfo: gone")
    assert reading.source == "psutil"
    assert 0 < reading.bytes <= reading.total


CHILD = """
import resource, sys
from omnimemory.scheduler.probe import Probe
probe = Probe()
before = probe()
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
limited = probe()
held = bytearray(64 << 20)
print(before.bytes, limited.bytes, limited.source, limited.total, probe().bytes, "psutil" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce these limits")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_real_process_limit_lowers_the_real_figure(name):
    limit = GIB // 2
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, str(limit)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    before, limited, source, total, holding, psutil = done.stdout.split()
    assert int(limited) < min(int(before), limit)
    assert (source, int(total)) == (name, limit)
    assert int(limited) - int(holding) >= 64 << 20
    assert psutil == "False"
