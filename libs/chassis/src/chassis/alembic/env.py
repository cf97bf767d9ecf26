"""Runs the migrations of whichever service asked, on the connection it opened, inside its transaction."""

from alembic import context

schema: str = context.config.attributes["schema"]
context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema=schema,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
