"""What was forgotten: hashes that keep it from coming back, and what is still to be purged from files.

Revision: 0002, after 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE tombstones (
        hash BLOB PRIMARY KEY
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE purges (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        place TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        data BLOB
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
