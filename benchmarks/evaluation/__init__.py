"""How good the answers are: on labelled pairs, hard negatives, categories and a stream of requests."""
