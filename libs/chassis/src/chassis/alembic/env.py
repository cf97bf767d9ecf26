"""Runs one history of migrations on the connection that `migrate` opened, inside its transaction."""

from alembic import context

schema: str = context.config.attributes["schema"]
context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    version_table_schema=schema,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
