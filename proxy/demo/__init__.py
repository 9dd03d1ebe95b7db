"""The demo upstream: a stand-in for an LLM API, with settable latency, capacity and errors."""
