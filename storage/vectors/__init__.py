"""Where the vectors of all entries lie: in memory, or in PostgreSQL."""
