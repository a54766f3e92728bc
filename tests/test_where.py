"""Filters: the same answers as Chroma on the same records, and as plain Python."""

import json
import operator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from store_cases import add_chunks, chunk, delete_chunks, opened, unit_vectors

from omnimemory.errors import ConfigError
from omnimemory.records import Event
from omnimemory.storage.where import check_where, column_of, match

KEYS = ["a", "b", "c"]
# What a float is compared with decides whether Chroma agrees with arithmetic: whole numbers of moderate size do.
AGREED_NUMBERS = st.sampled_from([-3, -1, 0, 1, 2, 7, 10**12, -3.0, -1.0, 0.0, 1.0, 2.0, 7.0, 1e12])
FRACTIONS = st.sampled_from([-1.5, 0.25, 1.5, 7.75])
STRINGS = st.sampled_from(["", "a", "b", "A", "1", "true", "é", "天気", "it's", 'a"b', "a\\b", "😀", "a\nb"])
BOOLEANS = st.booleans()
SCALARS = st.one_of(AGREED_NUMBERS, FRACTIONS, STRINGS, BOOLEANS)
WHOLE = st.sampled_from([-1, 0, 1, 2, 7])
REAL = st.sampled_from([-1.0, 0.0, 0.25, 1.0, 7.0])
LISTS = st.one_of(*(st.lists(kind, min_size=1, max_size=3) for kind in (WHOLE, REAL, STRINGS, BOOLEANS)))
METADATA = st.dictionaries(st.sampled_from(KEYS), st.one_of(SCALARS, LISTS), max_size=3)


def conditions(numbers, lists_of):
    scalars = st.one_of(numbers, STRINGS, BOOLEANS)
    return st.one_of(
        scalars,
        st.builds(lambda name, value: {name: value}, st.sampled_from(["$eq", "$ne"]), scalars),
        st.builds(lambda name, value: {name: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
        st.builds(lambda name, value: {name: value}, st.sampled_from(["$contains", "$not_contains"]), scalars),
        st.builds(lambda name, values: {name: values}, st.sampled_from(["$in", "$nin"]), lists_of),
    )


def filters(condition):
    leaf = st.builds(lambda key, test: {key: test}, st.sampled_from(KEYS), condition)
    return st.recursive(
        leaf,
        lambda inner: st.builds(
            lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=2, max_size=3)
        ),
        max_leaves=6,
    )


# What Chroma accepts: lists of one kind, one key in a dictionary, fractions only where no integer is stored.
CHROMA_FILTERS = filters(
    conditions(
        AGREED_NUMBERS,
        st.one_of(
            *(
                st.lists(kind, min_size=1, max_size=3)
                for kind in (
                    AGREED_NUMBERS.filter(lambda value: isinstance(value, int)),
                    AGREED_NUMBERS.filter(lambda value: isinstance(value, float)),
                    STRINGS,
                    BOOLEANS,
                )
            )
        ),
    )
)
BIG = st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63), float(2**53), float(2**63), 1e300, -1e300])
NUMBERS = st.one_of(
    AGREED_NUMBERS, FRACTIONS, BIG, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
OWN_FILTERS = st.one_of(
    filters(conditions(NUMBERS, st.lists(st.one_of(NUMBERS, STRINGS, BOOLEANS), min_size=1, max_size=4))),
    st.dictionaries(st.sampled_from(KEYS), st.one_of(NUMBERS, STRINGS, BOOLEANS), min_size=1, max_size=3),
    st.builds(lambda low, high: {"a": {"$gte": low, "$lt": high}}, NUMBERS, NUMBERS),
)


EDGES = [
    2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**53) - 1, -(2**63), 1, 0,
    float(2**53), float(2**53 + 2), float(2**63), -float(2**63), 1.5, -0.0, 1e300, -1e300,
]  # fmt: skip


# -- the meaning in plain Python

ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
NEGATED = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}


def same(stored, value):
    if isinstance(stored, list):
        return False
    if isinstance(stored, bool) or isinstance(value, bool) or isinstance(stored, str) or isinstance(value, str):
        return type(stored) is type(value) and stored == value
    return stored == value


def holds(metadata, key, name, value):
    if name in NEGATED:
        return not holds(metadata, key, NEGATED[name], value)
    if key not in metadata:
        return False
    stored = metadata[key]
    if name == "$eq":
        return same(stored, value)
    if name == "$in":
        return any(same(stored, one) for one in value)
    if name == "$contains":
        return isinstance(stored, list) and any(type(one) is type(value) and one == value for one in stored)
    return isinstance(stored, int | float) and not isinstance(stored, bool) and ORDER[name](stored, value)


def accepts(where, metadata):
    for key, condition in where.items():
        if key == "$and":
            fits = all(accepts(part, metadata) for part in condition)
        elif key == "$or":
            fits = any(accepts(part, metadata) for part in condition)
        else:
            tests = condition if isinstance(condition, dict) else {"$eq": condition}
            fits = all(holds(metadata, key, name, value) for name, value in tests.items())
        if not fits:
            return False
    return True


# -- the records, in the catalog and in Chroma


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("where") / "store", index=False) as store:
        yield store


@contextmanager
def chroma_with(folder, records):
    """Give a Chroma collection of its own for each example: what was deleted from one still answers $contains."""
    import chromadb
    from chromadb.config import Settings

    with chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False)) as client:
        collection = client.create_collection("records", embedding_function=None)
        collection.add(
            ids=NAMES[: len(records)], embeddings=unit_vectors(len(records)), metadatas=[one or None for one in records]
        )
        yield collection


NAMES = [f"r{n}" for n in range(60)]


def put(store, records):
    delete_chunks(store, NAMES)
    named = [chunk(name, record) for name, record in zip(NAMES, records, strict=False)]
    add_chunks(store, named, unit_vectors(len(named)))


def matching(store, where):
    return {item.id for item in store.documents.items(list(store.matching("documents", where))).values()}


# Making an example smaller would open hundreds of Chroma collections, so it is shown as it was found.
@given(st.data())
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_filters_mean_what_they_mean_to_chroma(store, tmp_path_factory, data):
    records = data.draw(st.lists(METADATA, min_size=5, max_size=40))
    put(store, records)
    with chroma_with(tmp_path_factory.mktemp("chroma"), records) as collection:
        for where in data.draw(st.lists(CHROMA_FILTERS, min_size=15, max_size=15)):
            theirs = set(collection.get(where=where, include=[])["ids"])
            assert matching(store, where) == theirs, where
            assert {name for name, one in zip(NAMES, records, strict=False) if accepts(where, one)} == theirs, where


def as_sqlite_gives(records, key):
    kinds = {str: "text", int: "integer", float: "real", list: "array"}
    for record in records:
        value = record.get(key)
        if key not in record:
            yield None, None
        elif isinstance(value, bool):
            yield ("true" if value else "false"), int(value)
        else:
            yield kinds[type(value)], json.dumps(value) if isinstance(value, list) else value


def matched(records, where):
    check_where(where)
    return match(where, lambda key: column_of(as_sqlite_gives(records, key), json.loads), len(records)).tolist()


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), st.one_of(SCALARS, BIG, LISTS))), OWN_FILTERS)
@settings(max_examples=200, deadline=None)
def test_filters_mean_what_they_mean_in_python(records, where):
    assert matched(records, where) == [accepts(where, record) for record in records]


@pytest.mark.parametrize("name", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
@pytest.mark.parametrize("value", EDGES, ids=repr)
def test_numbers_compare_exactly_also_where_floats_are_coarse(name, value):
    records = [{"a": stored} for stored in EDGES]
    assert matched(records, {"a": {name: value}}) == [holds(record, "a", name, value) for record in records]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        SCALARS,
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_text_can_be_a_key(store, record):
    put(store, [record, {}])
    for key, value in record.items():
        if not key.startswith("$") and key not in {"source", "heading"}:
            assert matching(store, {key: value}) == {"r0"}
            assert matching(store, {key: {"$ne": value}}) == {"r1"}


@pytest.mark.parametrize(
    "key", ['say "hi"', "back\\slash", "a.b", "a[0]", "", "tab\t", "$.x"[1:], "天気", "'; DROP TABLE chunks"]
)
def test_a_key_with_signs_of_its_own_is_only_a_key(store, key):
    put(store, [{key: "yes"}, {"other": "yes"}, {key: ["in a list"]}])
    assert matching(store, {key: "yes"}) == {"r0"}
    assert matching(store, {key: {"$contains": "in a list"}}) == {"r2"}


def test_several_keys_and_several_operators_mean_and(store):
    put(store, [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "y"}, {"a": 5}])
    assert matching(store, {"a": 1, "b": "x"}) == {"r0"}
    assert matching(store, {"a": {"$gte": 1, "$lt": 5, "$ne": 2}}) == {"r0", "r2"}
    assert matching(store, {"$or": [{"a": 5}, {"a": 2}], "b": {"$ne": "x"}}) == {"r3"}
    assert matching(store, {"a": {"$in": [1, "x", True]}}) == {"r0", "r2"}
    assert matching(store, {"$and": [{"a": 1}]}) == {"r0", "r2"}


def test_source_and_heading_can_be_asked_for_and_own_metadata_of_that_name_wins(store):
    delete_chunks(store, NAMES)
    own = chunk("r2", {"source": "mine", "heading": "own"})
    add_chunks(store, [chunk("r0"), chunk("r1", {"heading": "h"}), own], unit_vectors(3), source="file:/tmp/it's.md")
    assert matching(store, {"source": "file:/tmp/it's.md"}) == {"r0", "r1"}
    assert matching(store, {"source": "mine", "heading": "own"}) == {"r2"}
    assert matching(store, {"heading": {"$ne": "h"}}) == {"r0", "r2"}


def test_commands_are_filtered_by_what_their_newest_event_says(store):
    with store.catalog.transaction() as sql:
        rows = store.commands.add(sql, ["make", "ls"], pending=False)
        source = store.documents.ensure_source(sql, "history:x", "history")
        events = [
            (b"1", rows[0], 0, Event("make", 10.0, "/old", 2)),
            (b"2", rows[0], 1, Event("make", 20.0, "/new", 0)),
            (b"3", rows[1], 2, Event("ls")),
        ]
        store.commands.add_events(sql, source, events)
        sql.executemany(
            "INSERT INTO vectors (collection_id, item, vector) VALUES (?, ?, ?)",
            [(store.commands.collection.id, row, unit_vectors(1, row).tobytes()) for row in rows],
        )
    for where, expected in [
        ({"cwd": "/new"}, {rows[0]}),
        ({"cwd": "/old"}, set()),
        ({"exit_code": 0, "count": 2}, {rows[0]}),
        ({"last": {"$gte": 20}, "first": {"$lt": 11}}, {rows[0]}),
        ({"exit_code": {"$ne": 0}}, {rows[1]}),
        ({"source": "history:x"}, set(rows)),
        ({"no such field": 1}, set()),
    ]:
        assert store.matching("commands", where) == expected, where
    with store.catalog.transaction() as sql:
        store.commands.add_events(sql, source, [(b"4", rows[1], 3, Event("ls", 30.0, "/new", 1))])
    assert store.matching("commands", {"cwd": "/new"}) == set(rows)


def test_a_filter_sees_changes_of_metadata_at_once(store):
    put(store, [{"a": 1}, {"a": 2}])
    assert matching(store, {"a": 1}) == {"r0"}
    owner = store.catalog.value("SELECT source_id FROM chunks WHERE chunk_id = 'r1'")
    with store.catalog.transaction() as sql:
        store.documents.move(sql, [(store.documents.stored(owner)["r1"], chunk("r1", {"a": 1}))])
    assert matching(store, {"a": 1}) == {"r0", "r1"}
    delete_chunks(store, ["r0"])
    assert matching(store, {"a": 1}) == {"r1"}
    add_chunks(store, [chunk("r5", {"a": 1})], unit_vectors(1))
    assert matching(store, {"a": 1}) == {"r1", "r5"}


def test_integers_beyond_64_bits_in_old_metadata_compare_as_floats(store):
    put(store, [{"a": 2**64}, {"a": 5}])
    assert matching(store, {"a": {"$gt": 2**60}}) == {"r0"}
    assert matching(store, {"a": float(2**64)}) == {"r0"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        pytest.param({}, "non-empty dictionary", id="empty"),
        pytest.param([("a", 1)], "non-empty dictionary", id="a list"),
        pytest.param({"$or": []}, r"\$or takes a list", id="empty or"),
        pytest.param({"$and": {"a": 1}}, r"\$and takes a list", id="and of a dictionary"),
        pytest.param({"$and": [{}]}, "non-empty dictionary", id="empty part"),
        pytest.param({"$not": [{"a": 1}]}, r"no operator '\$not'.*only \$and and \$or", id="unknown at the top"),
        pytest.param({"a": {"$regex": "x"}}, r"no operator '\$regex'. Known: \$contains", id="unknown on a key"),
        pytest.param({"a": {"b": 1}}, "no operator 'b'", id="a nested key"),
        pytest.param({"a": {}}, "filter on 'a' is empty", id="no condition"),
        pytest.param({"a": None}, "takes a text, boolean or finite number", id="none"),
        pytest.param({"a": [1, 2]}, "takes a text, boolean or finite number", id="a list as value"),
        pytest.param({"a": {"$in": []}}, r"\$in on 'a' takes a non-empty list", id="in nothing"),
        pytest.param({"a": {"$in": "abc"}}, r"\$in on 'a' takes a non-empty list", id="in a text"),
        pytest.param({"a": {"$nin": [[1]]}}, r"\$nin on 'a' takes a non-empty list", id="lists in a list"),
        pytest.param({"a": {"$gt": "x"}}, r"\$gt on 'a' compares finite numbers", id="greater than a text"),
        pytest.param({"a": {"$lte": True}}, r"\$lte on 'a' compares finite numbers", id="less than true"),
        pytest.param({"a": {"$gt": float("nan")}}, r"\$gt on 'a' compares finite numbers", id="not a number"),
        pytest.param({"a": float("inf")}, "finite number of 64 bits", id="infinity"),
        pytest.param({"a": 2**63}, "finite number of 64 bits", id="more than 64 bits"),
        pytest.param({3: "x"}, "no operator 3", id="a number as key"),
        pytest.param({"a": np.int64(3)}, "takes a text, boolean or finite number", id="a numpy number"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_is_wrong(store, where, message):
    with pytest.raises(ConfigError, match=message):
        store.matching("documents", where)
    with pytest.raises(ConfigError, match=message):
        store.nearest("documents", unit_vectors(1)[0], 3, where)


def test_a_filter_nested_without_end_is_refused(store):
    where = {"a": 1}
    for _ in range(5000):
        where = {"$and": [where]}
    with pytest.raises(ConfigError, match="nested more than 100 levels"):
        store.matching("documents", where)
