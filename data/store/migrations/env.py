"""What Alembic runs: the migrations, in the connection and transaction that `upgrade` was given."""

from alembic import context

context.run_migrations()
