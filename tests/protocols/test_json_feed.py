"""The feed's payloads against messages written by hand, its schemas against both, its numbers against every digit."""

import json
import re
import struct
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from protocols import profile
from protocols.feeds import json_feed
from protocols.feeds.json_feed import Moment, TimeQuality
from protocols.model import Board, Bus, Line, Point, Site, StoreSettings

FEEDS = Path(json_feed.__file__).parent
SCHEMAS = {path.name: json.loads(path.read_text("utf-8")) for path in (FEEDS / "schema").iterdir()}
REGISTRY: Registry = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)
VALID = sorted((FEEDS / "golden" / "valid").iterdir())
INVALID = sorted((FEEDS / "golden" / "invalid").iterdir())

BIRTH = "e681bf57"
NOW = ("jt-0042", "01KAR8M2")
AFTER_RESTART = ("jt-0042", "01KAS2QX")
SYNCED = TimeQuality("synced", 7, None)
UNSYNCED = TimeQuality("unsynced", None, "cab1/9f3a60c2")


def golden(name: str) -> bytes:
    return (FEEDS / "golden" / "valid" / f"{name}.json").read_bytes().removesuffix(b"\n")


def is_valid(path: Path) -> bool:
    message = json.loads(path.read_text("utf-8"))
    schema = SCHEMAS[message["schema"].split("/")[1] + ".json"]
    return Draft202012Validator(schema, registry=REGISTRY).is_valid(message)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_schemas_accept(path):
    assert is_valid(path)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_schemas_refuse(path):
    assert not is_valid(path)


def test_schemas_have_the_bounds_that_the_code_has():
    common, clock = SCHEMAS["common.json"]["$defs"], SCHEMAS["clock.json"]["properties"]
    assert {name: common[name]["maximum"] for name in ("utc_ms", "span_ms", "err_ms", "count", "seq")} == {
        "utc_ms": json_feed.UTC_MS_MAX, "span_ms": json_feed.SPAN_MS_MAX, "err_ms": json_feed.ERR_MS_MAX,
        "count": json_feed.COUNT_MAX, "seq": json_feed.COUNT_MAX,
    }  # fmt: skip
    value = common["value_or_null"]
    assert (value["minimum"], value["maximum"]) == (-json_feed.VALUE_MAX, json_feed.VALUE_MAX)
    assert common["utc_ms_or_null"]["maximum"] == json_feed.UTC_MS_MAX
    assert common["count_or_null"]["maximum"] == json_feed.COUNT_MAX
    assert (clock["drift_ppm"]["minimum"], clock["drift_ppm"]["maximum"]) == (
        -json_feed.DRIFT_PPM_MAX,
        json_feed.DRIFT_PPM_MAX,
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name):
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_asyncapi_names_files_that_are_there():
    named = re.findall(r"\./schema/(\w+\.json)", (FEEDS / "asyncapi.yaml").read_text("utf-8"))
    assert sorted(named) == sorted(set(SCHEMAS) - {"common.json"})


# --- payloads, byte for byte --------------------------------------------------------------------------------


def point(tag: str, **settings) -> Point:
    codes = {"TK101.level": "G0001YW001", "TK101.temp": "G0001WD001", "GD07.gas": "Q0007QT001"}
    given = {
        "point": tag,
        "type": "f32",
        "urgent": False,
        "heartbeat_s": 60,
        "limits": (("HH", 11.4),),
        "preset": "",
        "on_delay_s": 0.0,
        "oel": None,
        "oel_source": "",
        "action": "",
        "hazard": "001",
        "quota_id": f"E12345678001{codes[tag]}",
    }
    return Point(**given | settings)


@pytest.fixture
def site() -> Site:
    line = Line.parse("9600 8N1")
    profiles = {
        name: replace(profile.builtin(name), version=version, evidence=evidence)
        for name, version, evidence in [
            ("vegapuls-modbus", 3, "manual"),
            ("adam-4017p", 1, "manual"),
            ("gas-module-6in1", 3, "code"),
        ]
    }
    return Site(
        gateway="jt-0042",
        name="示例化工 1# 罐区",
        group="changzhou-jintan",
        timezone="Asia/Shanghai",
        enterprise_code="E12345678",
        gateway_code="E1234567801",
        boards=(Board("cab1", "esp32s3-7cdfa1e40c11", None), Board("cab2", "esp32-a0b765112233", None)),
        buses=(Bus("level", "cab1", 1, line, False), Bus("gas-b", "cab2", 1, line, False)),
        points=(
            point(
                "TK101.level", name="甲醇罐液位", area="罐区A", medium="甲醇", unit="m", unit_text="m",
                range_low=0.0, range_high=12.5, period_ms=2000, deadband=0.01, bus="level", unit_id=1,
                profile="vegapuls-modbus", channel="level", decimals=3,
            ),
            point(
                "TK101.temp", name="甲醇罐温度", area="罐区A", medium="甲醇", unit="Cel", unit_text="℃",
                range_low=-20.0, range_high=80.0, period_ms=5000, deadband=0.2, bus="gas-b", unit_id=20,
                profile="adam-4017p", channel="ch0", decimals=1,
            ),
            point(
                "GD07.gas", name="泵房可燃气", area="泵房", medium="混合", unit="%{LEL}", unit_text="%LEL",
                range_low=0.0, range_high=100.0, period_ms=1000, deadband=1.0, bus="gas-b", unit_id=1,
                profile="gas-module-6in1", channel="gas", decimals=1,
            ),
        ),
        store=StoreSettings("/var/lib/tankgate", 8_000_000_000, 30, 365),
        destinations=(),
        profiles=profiles,
        config_hash="sha256:5d1f",
    )  # fmt: skip


def test_birth(site):
    content = json_feed.birth_content(site, "0.1.0", "0.1.0", "live")
    assert json_feed.birth_id(content) == BIRTH
    assert json_feed.birth(*NOW, 907, BIRTH, content) == golden("birth")


def test_birth_is_the_same_after_a_stay_in_the_store(site):
    content = json_feed.birth_content(site, "0.1.0", "0.1.0", "live")
    assert json_feed.birth_id(json.loads(json.dumps(content))) == BIRTH


def test_birth_without_range_and_codes(site):
    bare = replace(site, points=(replace(site.points[0], range_low=None, quota_id="", hazard="", period_ms=500),))
    row = json_feed.birth_content(bare, "0.1.0", "0.1.0", "live")["points"][0]
    assert (row["range"], row["codes"], row["period_s"]) == (None, {}, 0.5)


def test_a_change_of_anything_is_another_birth(site):
    other = replace(site, points=(*site.points[:2], replace(site.points[2], deadband=2.0)))
    assert json_feed.birth_id(json_feed.birth_content(other, "0.1.0", "0.1.0", "live")) != BIRTH
    assert json_feed.birth_id(json_feed.birth_content(site, "0.1.0", "0.1.0", "simulated")) != BIRTH


def test_data():
    rows = [
        ("TK101.level", 118, 8.412, 0, 0),
        ("TK104.level", 386, 5.07, 0, 0),
        ("TK101.temp", 402, 24.6, 0, 0),
        ("GD03.gas", 455, None, 200, 0),
        ("GD05.gas", 561, None, 211, 0),
        ("GD06.gas", 561, None, 204, 17),
        ("GD07.gas", 640, 52.5, 0, 0),
        ("GD08.gas", 702, 100.0, 100, 0),
    ]
    assert json_feed.data(*NOW, 184211, BIRTH, SYNCED, 1795401004000, rows) == golden("data")


def test_data_without_a_clock():
    rows = [("GD01.gas", 0, 0.4, 0, 0)]
    assert json_feed.data(*AFTER_RESTART, 3, BIRTH, UNSYNCED, 8120, rows) == golden("data-unsynced")


def test_a_detail_keeps_the_status_before_it():
    message = json_feed.data(*NOW, 1, BIRTH, SYNCED, 0, [("GD01.gas", 0, 0.4, 0, 7)])
    assert json.loads(message)["rows"] == [["GD01.gas", 0, 0.4, 0, 7]]


@pytest.mark.parametrize(("value", "status"), [(None, 0), (None, 100), (0.0, 200), (12.5, 211)])
def test_a_value_that_contradicts_its_status_is_never_sent(value, status):
    with pytest.raises(ValueError, match="GD01.gas"):
        json_feed.data(*NOW, 1, BIRTH, SYNCED, 0, [("GD01.gas", 0, value, status, 0)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_never_sent(value):
    with pytest.raises(ValueError):
        json_feed.data(*NOW, 1, BIRTH, SYNCED, 0, [("GD01.gas", 0, value, 0, 0)])


def test_clock():
    message = json_feed.clock(
        *AFTER_RESTART, 4, BIRTH, boot="cab1/9f3a60c2", from_uptime_ms=8000,
        utc_at_uptime_0_ms=1795401604000, drift_ppm=3.2, err_ms=15,
    )  # fmt: skip
    assert message == golden("clock")


def test_gap():
    message = json_feed.gap(
        *NOW, 915, BIRTH, cause="ring_full", quality=TimeQuality("synced", 40, None),
        begin=Moment(1795399744000, "cab1/4be01d77", 911_744_000),
        end=Moment(1795399963000, "cab1/4be01d77", 911_963_000), board="cab1", polls=1971, polls_are="at_most",
    )  # fmt: skip
    assert message == golden("gap")


def test_gap_of_a_bus():
    message = json_feed.gap(
        *NOW, 917, BIRTH, cause="other_master", quality=TimeQuality("synced", 40, None),
        begin=Moment(1795399744000, "cab2/c2905a3e", 911_731_000),
        end=Moment(1795399963000, "cab2/c2905a3e", 911_950_000), board="cab2", bus="gas-b", polls=None,
        polls_are="unknown",
    )  # fmt: skip
    assert message == golden("gap-other-master")


def test_gap_without_a_clock():
    message = json_feed.gap(
        *AFTER_RESTART, 5, BIRTH, cause="plan_unknown", quality=UNSYNCED, begin=Moment(None, "cab1/9f3a60c2", 2100),
        end=Moment(None, "cab1/9f3a60c2", 7900), board="cab1", polls=12, polls_are="exact",
    )  # fmt: skip
    assert message == golden("gap-unsynced")


def test_gap_of_a_boot_before_and_one_after_without_a_clock_or_with_one_that_was_put_back():
    begin = Moment(1795399744000, "cab1/4be01d77", 911_744_000)
    gap = {"cause": "board_restart", "begin": begin, "board": "cab1", "polls": None, "polls_are": "unknown"}
    end = Moment(1795396150120, "cab1/9f3a60c2", 6120)
    message = json_feed.gap(*AFTER_RESTART, 2, BIRTH, quality=TimeQuality("synced", 40, None), end=end, **gap)
    assert message == golden("gap-clock-put-back")
    end = Moment(None, "cab1/9f3a60c2", 6120)
    message = json_feed.gap(*AFTER_RESTART, 3, BIRTH, quality=UNSYNCED, end=end, **gap)
    assert message == golden("gap-to-a-boot-without-clock")


def test_gap_of_numbered_messages():
    message = json_feed.gap(
        *NOW, 916, BIRTH, cause="disk_quota", quality=TimeQuality("synced", 40, None),
        begin=Moment(1795100000000), end=Moment(1795100600000), polls=None, polls_are="unknown",
        missing=("01KAQZZ0", 4100, 4711),
    )  # fmt: skip
    assert message == golden("gap-dropped")


def facts(**changes) -> dict:
    return {
        "active": True, "acked": False, "latched": False, "occurrence": 1, "shelved_until_ms": None,
        "suppressed": False, "out_of_service": False,
    } | changes  # fmt: skip


def system_alarm(now: tuple[str, str], seq: int, **changes) -> bytes:
    return json_feed.alarm(
        *now, seq, BIRTH, **{
            "mode": "live", "alarm": "system.config:FAULT", "occurrence": 1, "transition": "raise", "before": "NORM",
            "after": "UNACK", "facts": facts(), "quality": TimeQuality("synced", 0, None),
            "t_ms": 1795401004640, "decided_ms": 1795401004640, "priority": 3,
            "action": "改正点表，然后运行 tankgate config apply",
        } | changes,
    )  # fmt: skip


def test_alarm_of_the_gateway_itself():
    assert system_alarm(NOW, 913) == golden("alarm-system")


def test_alarm_of_the_gateway_itself_without_a_clock():
    message = system_alarm(
        AFTER_RESTART, 6, alarm="system.bus.gas-a:OTHER_MASTER", occurrence=2, transition="clear", before="UNACK",
        after="RTNUN", facts=facts(active=False), quality=TimeQuality("unsynced", None, None), t_ms=None,
        decided_ms=1460001, priority=2, action="拔下另一主站",
    )  # fmt: skip
    assert message == golden("alarm-system-unsynced")


def test_alarm_of_a_point():
    message = json_feed.alarm(
        *NOW, 912, BIRTH, mode="live", alarm="GD07.gas:HH", occurrence=3, transition="raise", before="NORM",
        after="UNACK", facts=facts(latched=True), quality=SYNCED, t_ms=1795401004640, decided_ms=1795401004671,
        priority=1, point=("GD07.gas", 52.5, "%{LEL}", 0, 50), reading=(184211, 6),
    )  # fmt: skip
    assert message == golden("alarm")


def test_what_is_done_to_an_alarm_of_a_point_without_a_clock():
    message = json_feed.alarm(
        *AFTER_RESTART, 7, BIRTH, mode="live", alarm="GD07.gas:HH", occurrence=3, transition="ack", before="UNACK",
        after="ACKED", facts=facts(acked=True, latched=True), quality=TimeQuality("unsynced", None, None),
        t_ms=1460001, decided_ms=1460001, priority=1, point=("GD07.gas", 52.5, "%{LEL}", 0, 50), by="李工",
    )  # fmt: skip
    assert message == golden("alarm-worked-on-unsynced")


def test_action_without_a_clock():
    message = json_feed.action(
        *AFTER_RESTART, 8, BIRTH, action="muted", quality=TimeQuality("unsynced", None, None), t_ms=1460001,
        by="李工", reason="2 alarms",
    )  # fmt: skip
    assert message == golden("action-unsynced")


def test_action():
    message = json_feed.action(
        *NOW, 908, BIRTH, action="configuration_applied", quality=SYNCED, t_ms=1795400990000,
        by="李工", reason="GD10 富氧限值",
    )  # fmt: skip
    assert message == golden("action")


def test_action_on_a_unit():
    message = json_feed.action(
        *NOW, 917, BIRTH, action="unit_accepted", quality=TimeQuality("synced", None, None), t_ms=1795401010000,
        by="李工", reason="GD03 更换探头", unit=("gas-a", 3),
    )  # fmt: skip
    assert message == golden("action-unit")


def test_link():
    assert json_feed.link(*NOW, False, 1795399869750) == golden("link")


def test_state():
    message = json_feed.state(
        *NOW,
        BIRTH,
        mode="live",
        at_ms=1795401005200,
        clock={"kind": "synced", "err_ms": 7, "since_ms": 1795314604000},
        epochs={
            "01KAR8M2": {
                "data": {
                    "next": 184213,
                    "receipted": 184205,
                    "pending": [(171020, 172999), (184206, 184212)],
                    "oldest_kept": 12,
                },
                "event": {"next": 916, "receipted": 915, "pending": [], "oldest_kept": 1},
            }
        },
        values=[
            ("TK101.level", 1795401004118, 8.412, 0, 0),
            ("GD03.gas", 1795401004455, None, 200, 0),
            ("GD07.gas", 1795401004640, 52.5, 0, 0),
            ("GD09.gas", None, None, 222, 0),
        ],
        alarms=[
            ("GD07.gas:HH", 3, "UNACK", 1795401004640, 912),
            ("GD07.gas:H", 3, "UNACK", 1795401002640, 910),
            ("GD03.gas:FAULT", 1, "ACKED", 1795397404000, 871),
            ("TK105.level:H", 0, "OOSRV", 1795393804000, 866),
        ],
        boards=[("cab1", "up", "4be01d77", 913322, 1), ("cab2", "up", "c2905a3e", 913310, 1)],
        buses=[
            ("gas-a", "polling", 20, 0, 0, 14),
            ("gas-b", "other_master", 0, 3, 212, 0),
            ("level", None, None, 0, 0, 0),
        ],
        units=[("gas-a", 3, 912001, 214, 3, 0, 0, 17, 1795397404000, 1, 0, 96)],
        store={
            "state": "ok",
            "free_bytes": 6871947673,
            "history_hours": 720,
            "backlog_messages": 1987,
            "journal_head": "sha256:77aa",
        },
    )
    assert message == golden("state")


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_what_is_read_is_what_was_written(path):
    payload = path.read_bytes().removesuffix(b"\n")
    document = json_feed.read(payload)
    assert json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() == payload


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[1]",
        b'{"value":NaN}',
        b'{"value":-Infinity}',
        b'{"value":1e999}',
        b'{"name":"\\ud800"}',
        b'{"name":"\xff"}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_no_json_object_is_read_as_nothing(payload):
    assert json_feed.read(payload) is None


# --- topics, seconds, numbers -------------------------------------------------------------------------------


def test_topic():
    assert json_feed.topic("jt-0042", "event/alarm") == "tankgate/v1/jt-0042/event/alarm"


def test_heartbeats_of_many_gateways_spread_over_the_minute():
    seconds = [json_feed.heartbeat_second(f"jt-{number:04}") for number in range(6000)]
    counts = [seconds.count(second) for second in range(60)]
    assert sum(counts) == 6000
    assert min(counts) > 60 and max(counts) < 150  # 100 each, were it even; the standard deviation is 10


def f32(value: float) -> float:
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    return single


# Single precision by hand: 8.412 lies between neighbours 2^-20 (9.5e-7) apart, 0.1 between 2^-27.
@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (8.412, "f32", "8.412"),
        (8.411999702453613, "f32", "8.412"),
        (0.10000000149011612, "f32", "0.1"),
        (16777216.0, "f32", "16777216.0"),
        (3.4028234663852886e38, "f32", "3.4028235e+38"),
        (1.401298464324817e-45, "f32", "1e-45"),
        (-0.0, "f32", "-0.0"),
        (100.0, "f32", "100.0"),
        (23.4, "f32", "23.4"),  # a scaled integer is no float32, and keeps its own digits
        (0.30000000000000004, "f32", "0.30000000000000004"),
        (1e300, "f32", "1e+300"),
        (0.10000000149011612, "f64", "0.10000000149011612"),
        (65535, "u16", "65535"),
        (1, "bool", "1"),
    ],
)
def test_number(value, type, text):
    assert json.dumps(json_feed.number(value, type)) == text


SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(SINGLES)
def test_a_number_reads_back_as_the_same_float32(value):
    assert f32(float(json.dumps(json_feed.number(value, "f32")))) == value


# Beside these three, whose neighbours below are nearer than those above.
@given(SINGLES.filter(lambda value: abs(value) not in (2.0**-96, 2.0**87, 2.0**90)))
def test_no_decimal_with_a_digit_less_is_the_same_float32(value):
    digits = Decimal(repr(json_feed.number(value, "f32"))).normalize().as_tuple().digits
    if len(digits) > 1:
        nearest = Decimal(f"{value:.{len(digits) - 2}e}")
        step = Decimal((0, (1,), nearest.adjusted() - len(digits) + 2))
        shorter = [float(nearest + step * count) for count in (-1, 0, 1)]
        assert value not in [f32(decimal) for decimal in shorter if abs(decimal) <= 3.4028234663852886e38]


def test_a_receipt_is_read_as_the_district_writes_it():
    document = {
        "schema": "tankgate/receipt/1", "gateway": "jt-0042", "at_ms": 1795401006000, "later": 1,
        "epochs": {"01KAR8M2": {"data": {"committed": 184205, "missing": [[171020, 172999]]},
                                "event": {"committed": 915, "missing": []}, "later": {}}},
    }  # fmt: skip
    streams = {"data": (184205, [(171020, 172999)]), "event": (915, [])}
    assert json_feed.receipt(json.dumps(document).encode(), "jt-0042") == (1795401006000, {"01KAR8M2": streams})


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": "jt-0099"},
        {"schema": "tankgate/receipt/2"},
        {"at_ms": None},
        {"epochs": []},
        {"epochs": {"01KAR8M2": {"data": {"committed": "9", "missing": []}}}},
        {"epochs": {"01KAR8M2": {"data": {"committed": 9}}}},
    ],
)
def test_what_is_no_receipt_is_none(change):
    document = {"schema": "tankgate/receipt/1", "gateway": "jt-0042", "at_ms": 1, "epochs": {}} | change
    assert json_feed.receipt(json.dumps(document).encode(), "jt-0042") is None
    assert json_feed.receipt(b"[]", "jt-0042") is json_feed.receipt(b"\xff", "jt-0042") is None


def test_a_command_is_read_as_the_district_writes_it():
    asked = json_feed.Command("01KAR9Z7", "acknowledge", "GD07.gas:HH", 3, "district-duty", "on the way")
    assert json_feed.command(golden("command"), "jt-0042") == asked
    assert json_feed.command(golden("command"), "jt-0099") is None


@pytest.mark.parametrize(
    "change",
    [{"schema": "tankgate/command/2"}, {"do": "reset"}, {"do": "shelve"}, {"occurrence": None}, {"occurrence": True},
     {"occurrence": 1.0}, {"id": ""}, {"role": ""}, {"role": "x" * 129}, {"alarm": ["GD07.gas:HH"]}],
)  # fmt: skip
def test_what_is_no_command_is_none(change):
    document = json.loads(golden("command")) | change
    assert json_feed.command(json.dumps(document).encode(), "jt-0042") is None


def test_what_became_of_a_command():
    assert json_feed.reply("jt-0042", "01KAR9Z7", 1795401007100, None, "ACKED") == golden("reply")
    refused = json_feed.reply("jt-0042", "01KAR9Z8", 1795401007100, "other_occurrence", None)
    assert refused == golden("reply-refused")


def read_receipt(committed, missing):
    epochs = {"01KAR8M2": {"data": {"committed": committed, "missing": missing}}, "01KAS2QX": 7}
    document = {"schema": "tankgate/receipt/1", "gateway": "jt-0042", "at_ms": 1, "epochs": epochs}
    found = json_feed.receipt(json.dumps(document).encode(), "jt-0042")
    return found and found[1]["01KAR8M2"]["data"]


@pytest.mark.parametrize("missing", [[3, 2], [0, 5], [4], "x", [1.5, 2], [8, 2**53], [2**63, 2**63], [True, 2]])
def test_what_is_missing_and_no_range_makes_a_receipt_worthless(missing):
    assert read_receipt(9, [[4, 4]]) == (9, [(4, 4)])
    assert read_receipt(9, [[4, 4], missing]) is None


def test_what_a_receipt_says_of_an_epoch_that_no_gateway_can_have_is_not_read():
    """Else a gap would name it, which no receiver takes."""
    missing = {"data": {"committed": 9, "missing": [[4, 4]]}}
    epochs = {"01KAR8M2": missing, "01kar8m2": missing, "A" * 7: missing, "A" * 27: missing, "01KAR8M2\n": missing}
    document = {"schema": "tankgate/receipt/1", "gateway": "jt-0042", "at_ms": 1, "epochs": epochs}
    found = json_feed.receipt(json.dumps(document).encode(), "jt-0042")
    assert found == (1, {"01KAR8M2": {"data": (9, [(4, 4)])}})


def test_of_too_many_ranges_the_lowest_are_taken_and_the_next_one_bounds_what_is_committed():
    missing = [[number, number] for number in range(1, 5000, 2)]
    for in_some_order in (missing, missing[::-1]):
        committed, taken = read_receipt(6000, in_some_order)
        assert (committed, len(taken), taken[-1]) == (2000, json_feed.RECEIPT_RANGES_MAX, (1999, 1999))
    assert read_receipt(7, missing)[0] == 7
