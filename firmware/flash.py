"""Files in flash, or in the directory that stands for it. Shell.

Owns that a file is whole: the old one or the new one, wherever the power is cut. Must never raise for what the flash
does.
"""

import os


def load(name):
    """The content of a file, or None."""
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError:
        return None


def save(name, data):
    """Write a file: new beside old, then rename. False when the flash does not take it."""
    try:
        with open(name + ".new", "wb") as file:
            file.write(data)
        os.rename(name + ".new", name)
    except OSError:
        return False
    return True
