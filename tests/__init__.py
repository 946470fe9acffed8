"""The tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # each core has a process of tests: their threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
