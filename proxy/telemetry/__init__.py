"""What is told of calls: records, counts, history, metrics, log lines, traces."""
