"""The APIs behind the proxy: which is asked, how many calls each takes, and how it does."""
