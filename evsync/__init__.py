"""Data stores in step through one append-only journal."""
