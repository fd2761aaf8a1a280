"""A broker's address as people write it. Protocol.

Owns the forms mqtt://host:port and mqtts://host:port, and their default ports.
"""

from gettext import gettext as _
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


def address(url: str) -> tuple[str, int, bool]:
    """Host, port, and whether it is TLS; ValueError saying what is allowed."""
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.scheme in _DEFAULT_PORTS:
            return parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "mqtts"
    except ValueError:  # what is between the brackets or after the colon
        pass
    raise ValueError(_("{url}: allowed is mqtt://host:port or mqtts://host:port").format(url=url))
