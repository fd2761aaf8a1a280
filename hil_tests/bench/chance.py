"""Numbers that look random and are not: the same seed and key always draw the same one. Policy.

Owns the bench's only source of chance, so that a run is repeated by repeating its seed. Must never keep a state:
what is drawn depends on the key alone, not on what was drawn before.
"""

from hashlib import blake2b

_FULL = 1 << 64


def draw(seed: int, *key: object) -> float:
    """A number from 0 up to 1, without 1."""
    digest = blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _FULL


def wander(seed: int, key: str, at: float) -> float:
    """A smooth path from -1 to 1 that turns about once for each 1 of `at`."""
    step = int(at // 1)
    part = at - step
    eased = part * part * (3 - 2 * part)
    before, after = draw(seed, key, step), draw(seed, key, step + 1)
    return 2 * (before + (after - before) * eased) - 1
