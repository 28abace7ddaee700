"""scan: the loop over time, traced once and emitted as NumPy (see plan.py)."""
