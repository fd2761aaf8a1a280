# ruff: noqa: T201
"""Runs the board's program for good, and prints the bytes of the ring that found room in this heap. Shell."""

import main

print("ring", len(main.RING))
main.main()
