"""Entries: vectors and metadata in memory, documents outside."""
