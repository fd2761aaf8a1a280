# ruff: noqa: T201
"""Runs under MicroPython: calls every test_* function of one module and says how each ended. Shell.

Prints `ok NAME` or `FAILED NAME`, the latter after its traceback; test_board.py reads it.
"""

import sys


def main(module_name):
    module = __import__(module_name)
    for name in sorted(dir(module)):
        if name.startswith("test_"):
            try:
                getattr(module, name)()
                print("ok", name)
            except Exception as error:
                sys.print_exception(error, sys.stdout)
                print("FAILED", name)
