"""Titles in Unicode's normal form C, as events bring them from now on."""

from chassis import migrate

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rewrite the titles and descriptions that came in another form."""
    migrate.execute(
        """
UPDATE categories SET title = normalize(title, NFC) WHERE title IS NOT NFC NORMALIZED;
UPDATE products SET title = normalize(title, NFC), description = normalize(description, NFC)
WHERE title IS NOT NFC NORMALIZED OR description IS NOT NFC NORMALIZED;
"""
    )


def downgrade() -> None:
    """Change nothing: the form means the same to the code before."""
