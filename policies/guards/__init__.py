"""Guards: what the cosine of two questions hardly sees. Read objections.py for what there is."""
