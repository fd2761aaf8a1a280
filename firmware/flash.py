"""Files in flash, or in the directory that stands for it. Shell.

Owns that a file is whole: the old one or the new one, wherever the power is cut; and that of one that is kept twice
a copy is left where the flash forgets a byte. Must never raise for what the flash does.
"""

import hashlib
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


def load_whole(name):
    """What `save_twice` wrote, or None: of the two the first copy, which is the newer one, if it is as it was."""
    for copy in (name, name + "2"):
        data = load(copy)
        if data is not None and hashlib.sha256(data[32:]).digest() == data[:32]:
            return data
    return None


def save_twice(name, data):
    """Write what begins with the SHA-256 of the rest. False when the flash does not take it once."""
    if not save(name, data):
        return False
    save(name + "2", data)
    return True
