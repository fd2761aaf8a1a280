# ruff: noqa: T201
"""Runs the board's program for good, and prints the bytes of the ring that found room in this heap. Shell."""

import main

_allocate_ring = main.allocate_ring


def allocate_ring():
    """The ring, told."""
    ring = _allocate_ring()
    print("ring", len(ring))
    return ring


main.allocate_ring = allocate_ring
main.main()
