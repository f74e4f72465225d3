"""The programs people start."""

import os

# Set before NumPy is loaded. The filter solves systems of some 200 unknowns while the codecs keep
# every core busy; OpenBLAS spreads them over threads that then wait for each other: 84 ms a solve
# on two busy cores, against 0.2 ms in one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
