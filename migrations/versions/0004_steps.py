"""Transitions and sequences: what followed what, by the rows of the commands. They are filled at the next ingest.

Revision: 0004, after 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE transitions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        before INTEGER NOT NULL,
        after INTEGER NOT NULL,
        checksum INTEGER,
        UNIQUE (before, after)
    )
    """,
    "CREATE INDEX transitions_after ON transitions (after)",
    """
    CREATE TABLE sequences (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        event INTEGER NOT NULL UNIQUE,
        commands TEXT NOT NULL,
        checksum INTEGER
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
