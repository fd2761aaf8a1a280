"""Whether a received stream keeps the feed's rules: shapes, numbers without holes, births, order of rows. Protocol.

Owns what a shape cannot say; the shapes are schema/, and the caller brings what judges by them. Must never find
fault with what the feed allows: messages may come twice, late and in another order than their numbers, and a
listener may join at any time.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from gettext import gettext as _
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from protocols.feeds.json_feed import birth_id, number
from protocols.feeds.sequence import Ranges, Stream, identity

KINDS = ("birth", "link", "state", "data", "alarm", "gap", "action", "clock", "receipt", "command", "reply")
_TOPIC = re.compile(r"tankgate/v1/([^/]+)/(?:event/)?(\w+)")

Violations = Callable[[str, Mapping[str, Any]], Iterable[str]]  # of the schema of this kind, a sentence each


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is against the rules: where it was seen, and a sentence for a person."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What came in all; `findings` are those that only the end can tell."""

    messages: int
    readings: int
    duplicates: int  # came again, the same: as the feed allows
    coming: int  # not come yet, and named by the gateway as still to come
    boots_without_clock: int  # readings without a time, whose clock event has not come yet
    unknown: int  # of a schema that this version does not know: ignored, as the feed demands
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Numbers:
    """What is known of one stream's numbers."""

    seen: dict[int, bytes] = field(default_factory=dict)  # with a digest of the content
    since: int | None = None  # from here on all numbers concern this listener
    end: int = 0  # below this number every one has been sent, or is pending
    next: int = 0  # as the last state said
    promised: Ranges = field(default_factory=Ranges)  # pending in a state that came while listening
    pending: Ranges = field(default_factory=Ranges)  # in the last state
    dropped: Ranges = field(default_factory=Ranges)  # named by a gap

    def missing(self) -> Ranges:
        expected = Ranges(self.promised)
        if self.since is not None:
            expected.add(self.since, self.end - 1)
        return expected.without(((seq, seq) for seq in self.seen), self.dropped)


class StreamChecker:
    """Feed it all that was received, in that order; then `finish`."""

    def __init__(self, violations: Violations) -> None:
        self._violations = violations
        self._streams: defaultdict[Stream, _Numbers] = defaultdict(_Numbers)
        self._births: dict[tuple[str, str], dict[str, str]] = {}  # (gateway, birth): points with their types
        self._awaited: dict[tuple[str, str], tuple[Stream | None, str]] = {}  # births not come: first used where
        self._without_clock: set[tuple[str, str]] = set()
        self._clocks: set[tuple[str, str]] = set()
        self._messages = self._readings = self._duplicates = self._unknown = 0

    def feed(self, topic: str, payload: Any, retained: bool) -> list[Finding]:
        """What is wrong with this one. `payload` is the parsed JSON, None where it was none."""
        self._messages += 1
        addressed = _TOPIC.fullmatch(topic)
        if addressed is None or addressed[2] not in KINDS:
            return [Finding(topic, _("no topic of the feed"))]
        gateway, kind = addressed.groups()
        if not isinstance(payload, dict):
            return [Finding(topic, _("the payload is not a JSON object"))]
        numbered = identity(topic, payload)
        where = f"{topic} {numbered[0].epoch} {numbered[1]}" if numbered else topic
        texts = self._message(gateway, kind, payload, retained, numbered, where)
        return [Finding(where, text) for text in texts]

    def _message(
        self,
        gateway: str,
        kind: str,
        payload: dict[str, Any],
        retained: bool,
        numbered: tuple[Stream, int] | None,
        where: str,
    ) -> list[str]:
        schema, known = str(payload.get("schema")), f"tankgate/{kind}/1"
        if schema != known and re.fullmatch(rf"tankgate/{kind}/\d+", schema):
            self._unknown += 1
            return []
        if schema != known:
            return [_("schema {schema}: on this topic {known} was expected").format(schema=schema, known=known)]
        texts = list(self._violations(kind, payload))
        if texts:
            return texts
        if payload["gateway"] != gateway:
            return [_("the topic is not that of gateway {gateway}").format(gateway=payload["gateway"])]
        if numbered is not None:
            stream, seq = numbered
            digest = blake2b(json.dumps(payload).encode(), digest_size=8).digest()
            before = self._streams[stream].seen.get(seq)
            if before is not None:
                self._duplicates += 1
                return [] if before == digest else [_("came again with another content under the same number")]
            self._count(self._streams[stream], seq, digest)
        if kind != "birth" and "birth" in payload and (gateway, payload["birth"]) not in self._births:
            self._awaited.setdefault((gateway, payload["birth"]), (numbered and numbered[0], where))
        match kind:
            case "birth":
                return self._birth(gateway, payload)
            case "data":
                return self._data(gateway, payload)
            case "state":
                return self._state(gateway, payload, retained)
            case "clock":
                self._clocks.add((gateway, payload["boot"]))
            case "gap" if payload["missing_seq"] is not None:
                of = Stream(gateway, payload["missing_epoch"], payload["of"])
                self._streams[of].dropped.add(*payload["missing_seq"])
        return []

    def _count(self, numbers: _Numbers, seq: int, digest: bytes) -> None:
        numbers.seen[seq] = digest
        # What is below the next number of a state heard before may be history, of which others heard the rest.
        if numbers.since is None and seq >= numbers.next:
            numbers.since = seq
        numbers.end = max(numbers.end, seq + 1)

    def _birth(self, gateway: str, payload: dict[str, Any]) -> list[str]:
        own = ("schema", "gateway", "epoch", "stream", "seq", "birth")
        content = {key: value for key, value in payload.items() if key not in own}
        self._births[gateway, payload["birth"]] = {row["point"]: row["type"] for row in payload["points"]}
        self._awaited.pop((gateway, payload["birth"]), None)
        right = birth_id(content)
        if payload["birth"] == right:
            return []
        return [
            _("birth {birth} is not the digest of its content: {right}").format(birth=payload["birth"], right=right)
        ]

    def _data(self, gateway: str, payload: dict[str, Any]) -> list[str]:
        rows = payload["rows"]
        self._readings += len(rows)
        if payload["t0_ms"] is None:
            self._without_clock.add((gateway, payload["boot"]))
        texts = [
            _("rows {before} and {after} are not in the order of dt_ms and point").format(before=at, after=at + 1)
            for at, (before, after) in enumerate(pairwise(rows))
            if (before[1], before[0]) >= (after[1], after[0])
        ]
        return texts + self._values(gateway, payload["birth"], rows)

    def _values(self, gateway: str, birth: str, rows: Iterable[list[Any]]) -> list[str]:
        types = self._births.get((gateway, birth))
        if types is None:
            return []
        texts = []
        for point, _time_ms, value, *_status in rows:
            if point not in types:
                texts.append(_("point {point} is not in birth {birth}").format(point=point, birth=birth))
            elif value is not None and number(value, types[point]) != value:
                text = _("{point}: {value} is longer than the same float32 needs: {short}")
                texts.append(text.format(point=point, value=value, short=number(value, types[point])))
        return texts

    def _state(self, gateway: str, payload: dict[str, Any], retained: bool) -> list[str]:
        texts = self._values(gateway, payload["birth"], payload["values"]["rows"])
        listed = {
            Stream(gateway, epoch, name): entry
            for epoch, streams in payload["epochs"].items()
            for name, entry in streams.items()
        }
        for stream, entry in listed.items():
            bounds = [bound for range_ in entry["pending"] for bound in range_]
            if bounds != sorted(bounds) or bounds and bounds[-1] >= entry["next"]:
                text = _("pending {pending} of {stream}: ascending ranges below next {next} were expected")
                texts.append(text.format(pending=entry["pending"], stream=stream.name, next=entry["next"]))
        for stream in listed.keys() | {stream for stream in self._streams if stream.gateway == gateway}:
            numbers = self._streams[stream]
            pending = listed[stream]["pending"] if stream in listed else []
            numbers.pending = Ranges((first, last) for first, last in pending)
            if stream not in listed:
                continue
            numbers.next = listed[stream]["next"]
            if not retained:
                # Made while this listener listened: from here on nothing can have gone to others only.
                numbers.since = min(numbers.since or numbers.next, numbers.next)
                numbers.end = max(numbers.end, numbers.next)
                for first, last in numbers.pending:
                    numbers.promised.add(first, last)
        return texts

    def finish(self) -> Summary:
        """The account, with what only the end can tell: messages that are lost, births that never came."""
        findings = []
        coming = 0
        for stream, numbers in self._streams.items():
            missing = numbers.missing()
            lost = missing.without(numbers.pending)
            coming += missing.count() - lost.count()
            for first, last in lost:
                text = _("numbers {first} to {last} did not come, and the gateway does not name them as pending")
                where = f"tankgate/v1/{stream.gateway}/{stream.name} {stream.epoch}"
                findings.append(Finding(where, text.format(first=first, last=last)))
        for (gateway, birth), (stream_, where) in self._awaited.items():
            # Where this listener did not hear an epoch from its beginning, its birth may have gone before. Not so
            # the present one, which is retained, and which every state names.
            joined_late = stream_ is not None and self._streams[stream_._replace(name="event")].since != 1
            if not joined_late or gateway not in {known for known, _birth in self._births}:
                findings.append(Finding(where, _("birth {birth} did not come").format(birth=birth)))
        return Summary(
            messages=self._messages,
            readings=self._readings,
            duplicates=self._duplicates,
            coming=coming,
            boots_without_clock=len(self._without_clock - self._clocks),
            unknown=self._unknown,
            findings=tuple(findings),
        )
