"""What a user of the SDK relies on, through the public API alone, on SQLite and on PostgreSQL."""
