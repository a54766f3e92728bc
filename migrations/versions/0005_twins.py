"""Copies of one vector: where they are, and which of them the index was not given.

Revision: 0005, after 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX vectors_twins ON vectors (collection_id, substr(vector, 1, 8), substr(vector, -8))",
    """
    CREATE TABLE left_out (
        generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
        collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
        item INTEGER NOT NULL,
        PRIMARY KEY (generation_id, collection_id, item)
    ) WITHOUT ROWID
    """,
)


# An index that was given all copies of a vector misses neighbours: it is given up, and made anew when it is used next.
CROWDED = """
    SELECT 1 FROM vectors GROUP BY collection_id, substr(vector, 1, 8), substr(vector, -8)
    HAVING count(*) > 8 LIMIT 1
"""
GIVE_UP = ("DELETE FROM index_changes", "DELETE FROM drained", "DELETE FROM generations")


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    if op.get_bind().exec_driver_sql(CROWDED).fetchone():
        for statement in GIVE_UP:
            op.execute(statement)
