"""The programs that serve LeNet with other servers; each runs in an environment of its own."""
