"""Bytes on sockets: the server side, the upstream connection pools, TLS, timeouts and byte limits. Decides nothing."""
