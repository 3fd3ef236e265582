"""Availability drills: whether callers notice when providers die, slow down or vanish. `python -m tools.drills`."""
