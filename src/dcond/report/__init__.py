"""What a run tells: ``result.json`` for machines, a table for people."""
