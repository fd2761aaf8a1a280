"""The daemon on the Raspberry Pi and the technician's program; start reading at daemon.py. Shell."""

__version__ = "0.1.0"
