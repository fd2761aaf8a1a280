"""What the broker of one destination refuses: which topics, why, since when, and what is to be done about it. Policy.

Owns, by topic and reason code, what was refused and has not been taken since, and the words for it. A numbered message
stands for itself: that another one of its topic is taken proves nothing of it. Documents and subscriptions are the same
each time: the next one that is taken ends it. Must never decide what is sent again: `forward` does.

Source: MQTT 5.0, sections 2.4 (reason codes), 3.4.2.1 (those of PUBACK) and 3.9.3 (of SUBACK).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from gettext import gettext as _
from typing import Any

from edge.forward import REFUSED, TOO_LARGE, Key, Stream
from protocols.feeds.sequence import Ranges

_NOT_AUTHORIZED, _QUOTA_EXCEEDED = 0x87, 0x97
_READ = ("receipt", "command")  # the other topics are written


@dataclass(slots=True)
class _Refused:
    """One topic, one reason code. `waiting`: the numbered messages that are still to be taken."""

    since_s: float
    times: int = 0
    waiting: dict[Stream, Ranges] = field(default_factory=dict)


class Refusals:
    """One destination; nothing is refused at the start."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, int], _Refused] = {}

    def __bool__(self) -> bool:
        return bool(self._refused)

    def answered(self, topic: str, reason_code: int, key: Key | None, now_s: float) -> bool:
        """The broker's answer to a message, `key`, or to a document or a subscription: whether a refusal is news."""
        if reason_code < REFUSED:
            if key is None:
                self._refused = {which: each for which, each in self._refused.items() if which[0] != topic}
            return False
        is_news = (topic, reason_code) not in self._refused
        refused = self._refused.setdefault((topic, reason_code), _Refused(now_s))
        refused.times += 1
        if key is not None:
            refused.waiting.setdefault(key[:2], Ranges()).add(key[2], key[2])
        return is_news

    def settle(self, unacknowledged: Callable[[Stream, Ranges], Ranges]) -> None:
        """To be called when messages were taken or are not kept any more."""
        for which, refused in list(self._refused.items()):
            if refused.waiting:
                rest = {stream: unacknowledged(stream, ranges) for stream, ranges in refused.waiting.items()}
                refused.waiting = {stream: ranges for stream, ranges in rest.items() if ranges}
                if not refused.waiting:
                    del self._refused[which]

    def rows(self, now_s: float, now_ms: float) -> list[dict[str, Any]]:
        """What is refused, as programs read it; the oldest first."""
        return [
            {
                "topic": topic,
                "reason_code": reason_code,
                "times": refused.times,
                "since_ms": round(now_ms - 1000 * (now_s - refused.since_s)),
                "waiting_messages": sum(ranges.count() for ranges in refused.waiting.values()),
            }
            for (topic, reason_code), refused in self._refused.items()
        ]


def short(topic: str) -> str:
    """A topic without what is the same for all topics of a gateway."""
    return topic.split("/", 3)[-1]


def reason_word(reason_code: int) -> str | None:
    """What a broker means by it; None for what is rarely seen."""
    words = {
        0x82: _("protocol error, perhaps by a message that is too large"),
        0x85: _("the name of the gateway is not valid there"),
        0x86: _("wrong user name or password"),
        _NOT_AUTHORIZED: _("not authorized"),
        0x88: _("the broker is not available"),
        0x89: _("the broker is busy"),
        0x8A: _("the gateway is banned there"),
        0x8B: _("the broker is shutting down"),
        TOO_LARGE: _("a message is larger than the broker takes"),
        _QUOTA_EXCEEDED: _("the quota there is exceeded"),
    }
    return words.get(reason_code)


def why(topic: str, reason_code: int) -> str:
    """Why a topic is refused, and what to do about it."""
    return _("{reason} (reason code {reason_code}). {what_to_do}").format(
        reason=reason_word(reason_code) or _("for a reason of its own"),
        reason_code=reason_code,
        what_to_do=_what_to_do(topic, reason_code),
    )


def _what_to_do(topic: str, reason_code: int) -> str:
    if reason_code == TOO_LARGE:
        return _("Raise the broker's largest packet (mosquitto: max_packet_size, message_size_limit).")
    if reason_code == _QUOTA_EXCEEDED:
        return _("Raise the gateway's quota there, or see why nobody fetches its messages.")
    if reason_code != _NOT_AUTHORIZED:
        return _("The log of the broker says more.")
    if short(topic) in _READ:
        return _("Let the gateway read this topic in the broker's access rules (ACL).")
    return _("Let the gateway write to this topic in the broker's access rules (ACL).")


def whole(topic: str, reason_code: int, is_numbered: bool) -> str:
    """Why, what to do, and what becomes of it meanwhile."""
    return _("{why} {meanwhile}").format(
        why=why(topic, reason_code), meanwhile=_meanwhile(topic, reason_code, is_numbered)
    )


def _meanwhile(topic: str, reason_code: int, is_numbered: bool) -> str:
    if short(topic) in _READ:
        return _("Asked for again with the next connection.")
    if not is_numbered:
        return _("Tried again each minute.")
    if reason_code == TOO_LARGE:
        return _("Set aside on disk until the next connection.")
    return _("Kept on disk, and tried again each minute.")
