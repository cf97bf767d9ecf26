"""YooKassa, API v3."""
