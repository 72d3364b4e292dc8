"""The journal: the ordered, append-only log of events, in one SQLite file; the only source of truth."""
