"""What the kernel says of its own clock. Shell.

Source: adjtimex(2) and linux/timex.h.
"""

import ctypes

_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """struct timex of Linux: `status` is all that is read of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


_libc = ctypes.CDLL(None)


def is_synchronized() -> bool:
    """Whether somebody (chrony, ntpd, timesyncd) has told the kernel that its clock is right; no rights are needed."""
    timex = _Timex()
    return _libc.adjtimex(ctypes.byref(timex)) >= 0 and not timex.status & _STA_UNSYNC
