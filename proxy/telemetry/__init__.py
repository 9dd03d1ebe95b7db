"""What is recorded of calls: reports, counts, history, metrics, log lines, traces."""
