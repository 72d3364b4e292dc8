"""From stores to journal and back: reading, deciding, projecting. What decides is pure; the rest moves data."""
