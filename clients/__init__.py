"""Real clients, changed in nothing but their base URL, through the real proxy: `make clients`."""
