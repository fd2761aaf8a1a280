"""Certificates: what they say of themselves is read, or they are damaged, and that is a ValueError.

Input: the DER of a certificate; or a PEM file, where it begins like one.
"""

import base64
from collections.abc import Iterator

from edge.certificate import read_pem

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"
_NAME, _ORGANISATION = bytes.fromhex("0603550403"), bytes.fromhex("060355040a")


def _element(tag: int, *parts: bytes) -> bytes:
    """DER; lengths from 128 on have a form of their own."""
    body = b"".join(parts)
    return bytes((tag, len(body)) if len(body) < 128 else (tag, 0x81, len(body))) + body


def _certificate(not_after: bytes, *names: bytes) -> bytes:
    """The fields that are read, and before them those that are passed over (RFC 5280, 4.1)."""
    subject = _element(0x30, *(_element(0x31, _element(0x30, name)) for name in names))
    validity = _element(0x30, _element(0x17, b"261126000000Z"), not_after)
    version, serial, algorithm = _element(0xA0, _element(0x02, b"\2")), _element(0x02, b"\7"), _element(0x30)
    issuer = _element(0x30, _element(0x31, _element(0x30, _NAME, _element(0x0C, b"ca"))))
    return _element(0x30, _element(0x30, version, serial, algorithm, issuer, validity, subject), algorithm)


def seeds() -> Iterator[bytes]:
    utc = _certificate(_element(0x17, b"490101000000Z"), _NAME + _element(0x0C, "罐区-1".encode()))
    yield utc
    yield _certificate(
        _element(0x18, b"20500101000000Z"),
        _ORGANISATION + _element(0x13, b"o" * 40),
        _NAME + _element(0x1E, "罐".encode("utf-16-be")),
    )
    yield (_BEGIN + base64.encodebytes(utc) + _END) * 2


def run_one(data: bytes) -> None:
    is_pem = data.startswith(b"-----")
    try:
        found = read_pem(data if is_pem else _BEGIN + base64.b64encode(data) + _END)
    except ValueError as refused:
        assert str(refused)
        return
    assert is_pem or len(found) == 1 or not data
    assert all(isinstance(each.common_name, str) for each in found)
    assert all(isinstance(end_s, int) for each in found for end_s in (each.not_before_s, each.not_after_s))
