"""What a request says: bytes <-> typed messages <-> events. Pure; no await anywhere in this package."""
