"""Copies of one vector: where they are, and which of them the index was not given.

Revision: 0005, after 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX vectors_twins ON vectors (collection_id, substr(vector, 1, 16))",
    """
    CREATE TABLE left_out (
        generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
        collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
        item INTEGER NOT NULL,
        PRIMARY KEY (generation_id, collection_id, item)
    ) WITHOUT ROWID
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
