"""A stream of changes that each replica tells, and leases on questions that one of them asks."""
