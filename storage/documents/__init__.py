"""The document store: answers with their questions and vectors, whole and lasting. The truth."""
