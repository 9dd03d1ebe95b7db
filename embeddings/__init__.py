"""Text to vector: back ends and micro-batching."""
