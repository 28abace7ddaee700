"""scan: the loop over time, traced once and emitted as NumPy.

Read trace.py, fission.py, places.py, emit.py, plan.py, run.py, loop.py; `docs/architecture.md` says
what each does.
"""
