"""An input that is a list of steps: a byte that says what, a byte that says how many, so many bytes. Protocol."""

from collections.abc import Iterator


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Any bytes are a script; the last step may be short."""
    at = 0
    while at + 2 <= len(data):
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def script(*steps: tuple[int, bytes]) -> bytes:
    """The bytes of these steps; each with at most 255 bytes."""
    return b"".join(bytes((what, len(body))) + body for what, body in steps)
