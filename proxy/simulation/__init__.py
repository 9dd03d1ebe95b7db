"""Replays recorded traffic through the real cache and policies on a virtual clock."""
