"""The benchmark: the gateway beside nginx, both in front of one mock upstream on loopback. Run `python -m bench`."""
