"""Why the system refused a file, a port or a connection, in the reader's language. Shell.

Owns these few sentences. Must never judge: what follows from a refusal, its caller knows.
"""

import errno
import os
import socket
import ssl
from gettext import gettext as _


def reason(fault: BaseException) -> str:
    """Of an OSError, a termios.error, or pyserial's error about either; of anything else its own words."""
    if isinstance(fault, socket.gaierror):
        return _("no address is found for this name")
    if isinstance(fault, ssl.SSLError):  # its numbers are others
        told = getattr(fault, "verify_message", fault.reason)
        return _("the encrypted connection fails: {reason}").format(reason=told)
    number = errno.ETIMEDOUT if isinstance(fault, TimeoutError) else _number(fault)
    texts = {
        errno.EACCES: _("this user may not"),
        errno.EPERM: _("this user may not"),
        errno.ENOENT: _("there is no such file, folder or port"),
        errno.EEXIST: _("it exists"),
        errno.EISDIR: _("it is a folder"),
        errno.ENOTDIR: _("what stands before it is no folder"),
        errno.ENOTTY: _("it is no serial port"),
        errno.EAGAIN: _("another program has it open"),
        errno.EBUSY: _("another program has it open"),
        errno.EROFS: _("the file system is read-only"),
        errno.ENOSPC: _("the disk is full"),
        errno.ECONNRESET: _("the other side ended the connection"),
        errno.ECONNREFUSED: _("nobody listens at this port"),
        errno.ETIMEDOUT: _("no answer came in time"),
        errno.EHOSTUNREACH: _("the network knows no way there"),
        errno.ENETUNREACH: _("the network knows no way there"),
    }
    return texts.get(number) or (os.strerror(number) if number else str(fault))


def _number(fault: BaseException | None) -> int:
    """pyserial puts what the system said into a text, but its error was raised while that one was handled."""
    while fault is not None:
        if fault.args and isinstance(fault.args[0], int):
            return fault.args[0]
        fault = fault.__context__
    return 0
