"""The command line: `nearhit` and its commands."""
