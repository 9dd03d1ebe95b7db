"""The HTTP shell: servers, the exchange, upstreams, admin plane, command line and wiring."""
