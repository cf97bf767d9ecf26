"""The HTTP API of access: authentication of every request, login, and the user's own record."""
