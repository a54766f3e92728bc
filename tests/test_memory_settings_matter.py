"""Every setting of main memory changes something."""

from settings_cases import matters

from omnimemory.memory import Memory


@matters("memory.reserve")
def test_memory_left_to_others(settings):
    with Memory(settings=settings.with_values({"memory.reserve": "900TiB"})) as memory:
        memory.add("a note")
        assert memory.status()["store"]["documents"]["pending"] == 1


@matters("memory.max_bytes")
def test_the_most_memory_this_package_may_use(settings):
    with Memory(settings=settings.with_values({"memory.max_bytes": 1})) as memory:
        memory.add("a note")
        assert memory.status()["store"]["documents"]["pending"] == 1


def taught(settings, path):
    """Show a memory, 40 times, that batches of its model need 900 TiB."""
    with Memory(settings=settings.with_values({"memory.learned": path})) as memory:
        memory.add("a note")
        costs = memory.embeddings._costs
        for _ in range(40):
            memory.embeddings.observer.learned.observe(costs._key, costs.of(["x"]).shape, 0, 900 << 40, 0, solo=True)


@matters("memory.learned")
def test_what_was_measured_is_read_where_the_setting_says(settings, tmp_path):
    taught(settings, tmp_path / "here.sqlite3")
    for name, pending in (("here", 1), ("elsewhere", 0)):
        values = {"memory.learned": tmp_path / f"{name}.sqlite3", "store.path": tmp_path / name, "cache.enabled": False}
        with Memory(settings=settings.with_values(values)) as memory:
            memory.add("a note")
            assert memory.status()["store"]["documents"]["pending"] == pending


@matters("memory.learn")
def test_without_learning_estimates_count_and_nothing_is_measured(settings, tmp_path):
    path = tmp_path / "learned.sqlite3"
    taught(settings, path)
    values = {"memory.learned": path, "memory.learn": False, "store.path": tmp_path / "new", "cache.enabled": False}
    with Memory(settings=settings.with_values(values)) as memory:
        memory.add("a note")
        assert memory.status()["store"]["documents"]["pending"] == 0
        assert memory.status()["learned"] == {"enabled": False, "measured": 0}
