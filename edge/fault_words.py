"""Why the system refused a file or a port, in the reader's language. Shell.

Owns these few sentences. Must never judge: what follows from a refusal, its caller knows.
"""

import errno
import os
from gettext import gettext as _


def reason(fault: BaseException) -> str:
    """Of an OSError, a termios.error, or pyserial's error about either; of anything else its own words."""
    number = _number(fault)
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
    }
    return texts.get(number) or (os.strerror(number) if number else str(fault))


def _number(fault: BaseException | None) -> int:
    """pyserial puts what the system said into a text, but its error was raised while that one was handled."""
    while fault is not None:
        if fault.args and isinstance(fault.args[0], int):
            return fault.args[0]
        fault = fault.__context__
    return 0
