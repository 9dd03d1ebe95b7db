"""The APIs behind the proxy: which one is asked, how many calls each one takes, and how loaded it is."""
