"""What `make bench` and `make bench-peers` run: how fast we serve, what limits it, and others."""
