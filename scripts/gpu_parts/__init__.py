"""The parts of `scripts/gpu_check.py`, one subject a module, each run in a process of its own."""
