"""What a run of the bench's suite showed -> an acceptance report, one self-contained page in both languages. Policy.

Owns the page: A4 when printed, nothing fetched from anywhere, every sentence in Chinese and in English, of which one is
shown at a time. What was not run is shown like what was, with the reason. Must never call a simulation a board.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_WHY_MAX = 600  # characters of a failure; the whole is in the log


def N_(sentence: str) -> str:
    """A sentence that is translated where it is shown."""
    return sentence


@dataclass(frozen=True, slots=True)
class Result:
    """One test. `shows`: its sentence, English.

    `missing`: what it needed and this rig or machine has not, with an English sentence where there is one.
    """

    test: str
    shows: str
    outcome: str
    seconds: float
    why: str
    missing: Mapping[str, str]
    captures: Sequence[str]


@dataclass(frozen=True, slots=True)
class Run:
    """The run: who, where, when, on what. `rig`: what the suite told of its boards; `never`: tests never on a board.

    `count`: how many tests there were to examine; of a run that was ended, more than `results`.
    """

    site: str
    gateway: str
    by: str
    begun: str
    machine: str
    version: str
    rig: Mapping[str, str]
    never: int | None
    results: Sequence[Result]
    count: int


_DISCLAIMER = N_(
    "tankgate monitors; it is auxiliary. It does not replace the gas detection and alarm system of GB/T 50493, the "
    "fire alarm system or a safety instrumented system (SIS), and this report does not accept any of them."
)
_RIGS = {
    "sim": N_("Simulated: virtual boards and lines on this machine. Nothing in this report was run on hardware."),
    "pseudo-terminals": N_(
        "A program behind pseudo-terminals answered as the board. Nothing in this report was run on hardware."
    ),
    "board": N_("Real boards on serial ports; the sensors on their buses were simulated by adapters."),
}
_FACTS = {
    "board": N_("board"),
    "firmware": N_("firmware (as the board says)"),
    "firmware_sha256": N_("firmware SHA-256 (of the files here)"),
}
_OUTCOMES = {PASSED: N_("passed"), FAILED: N_("FAILED"), SKIPPED: N_("not run")}
_LIMITS = (
    N_("A simulation shows nothing of RS-485 direction, parity, baud rate, break, brown-out or a chip's speed."),
    N_("The bench's sensors are made from their profiles: what a real sensor does beside its manual is not shown."),
    N_("A board tells its firmware's version, not its hash: the hash is of the firmware files of this installation."),
    N_("Wiring, intrinsic safety, earthing and the sensors' calibration are not part of this report."),
)
_SIGNS = (N_("tested by"), N_("installer"), N_("operator of the site"))

_STYLE = """
@page { size: A4; margin: 16mm 14mm }
:root { color-scheme: light }
body { font: 10.5pt/1.45 "Noto Sans SC","PingFang SC","Microsoft YaHei","WenQuanYi Micro Hei",sans-serif; color: #111;
  background: #fff; max-width: 182mm; margin: 8mm auto; padding: 0 4mm }
h1 { font-size: 18pt; margin: 0 0 3mm } h2 { font-size: 12pt; margin: 7mm 0 2mm; break-after: avoid }
table { border-collapse: collapse; width: 100% }
th, td { border: .3mm solid #999; padding: .8mm 2mm; text-align: left; vertical-align: top }
th { background: #eee; font-weight: 600 } thead { display: table-header-group } tr { break-inside: avoid }
.facts th { width: 42mm } .number { width: 8mm } .outcome { width: 17mm; font-weight: 600; white-space: nowrap }
.passed { color: #0a5c2b } .failed { color: #fff; background: #a40000 } .skipped { color: #555; font-style: italic }
.box { border: .6mm solid #111; padding: 1.5mm 3mm; margin: 3mm 0; break-inside: avoid }
.verdict { font-size: 12pt; font-weight: 600 }
.id, code { font: 7pt/1.3 ui-monospace,"DejaVu Sans Mono",monospace; color: #555; overflow-wrap: anywhere }
pre { font: 8pt/1.3 ui-monospace,"DejaVu Sans Mono",monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: 1mm 0 }
.sign td { height: 14mm } .sign th { width: 42mm } .remark { width: 52mm } section { break-inside: avoid }
.switch { float: right; font-size: 9pt } .switch label { margin-left: 3mm }
body:has(#zh:checked) [lang=en], body:has(#en:checked) [lang=zh] { display: none }
@media print { .switch { display: none } body { margin: 0; padding: 0; max-width: none } }
"""

_VERDICT = N_("{passed} passed, {failed} failed, {skipped} not run for want of a feature or a tool.")
_ENDED = N_("The run was ended before its end: {missing} of its {count} tests were not examined.")
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>tankgate 验收报告 acceptance report</title>
<style>{style}</style></head><body>
<form class="switch"><label><input type="radio" name="language" id="zh"{is_chinese}>中文</label>
<label><input type="radio" name="language" id="en"{is_english}>English</label></form>
<h1>{title}</h1>
<div class="box">{disclaimer}</div>
<div class="box verdict">{verdict}<br>{rig}</div>
<table class="facts">{facts}</table>
<h2>{examined}</h2>
<table><thead><tr><th class="number"></th><th>{shows}</th><th>{result}</th><th class="remark">{remark}</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>{limits_title}</h2><ul>{limits}</ul>
<section><h2>{signatures}</h2>
<table class="sign"><thead><tr><th></th><th>{signature}</th><th>{date}</th></tr></thead><tbody>{signs}</tbody></table>
<div class="box">{disclaimer}</div></section>
</body></html>
"""


def is_accepted(run: Run) -> bool:
    """Whether something was run, everything was examined, and nothing failed."""
    outcomes = {result.outcome for result in run.results}
    return PASSED in outcomes and FAILED not in outcomes and len(run.results) == run.count


def page(run: Run, chinese: Callable[[str], str], is_chinese: bool) -> str:
    """The report. `chinese` translates an English sentence; `is_chinese`: which language is shown first."""

    def both(sentence: str, **values: object) -> str:
        texts = {"zh": chinese(sentence), "en": sentence}
        return "".join(
            f'<span lang="{language}">{escape(text.format(**values) if values else text)}</span>'
            for language, text in texts.items()
        )

    def remark(result: Result) -> str:
        if result.outcome == SKIPPED:
            reasons = [
                both(N_("needs:")) + f" {escape(name)}" + ("<br>" + both(sentence) if sentence else "")
                for name, sentence in result.missing.items()
            ]
            return "<br>".join(reasons) or escape(result.why)
        files = "".join(f"<br><code>{escape(file)}</code>" for file in result.captures)
        return (f"<pre>{escape(result.why[:_WHY_MAX])}</pre>" if result.why else "") + (
            both(N_("captures:")) + files if files else ""
        )

    rig = {name: value for name, value in run.rig.items() if name != "dut"}
    if "board_cab1" in rig:
        del rig["board"]  # which names them all
    missing = run.count - len(run.results)
    counts = {each: sum(result.outcome == each for result in run.results) for each in _OUTCOMES}
    facts = [
        (N_("site"), run.site),
        (N_("gateway"), run.gateway),
        (N_("date"), run.begun),
        (N_("tested by"), run.by),
        (N_("machine"), run.machine),
        (N_("tankgate"), run.version),
        *((_FACTS.get(name.partition("_cab")[0], name), value) for name, value in rig.items()),
    ]
    rows = "".join(
        f'<tr><td class="number">{number}</td><td>{both(result.shows)}<br><span class="id">{escape(result.test)}, '
        f'{result.seconds:.1f} s</span></td><td class="outcome {result.outcome}">{both(_OUTCOMES[result.outcome])}</td>'
        f"<td>{remark(result)}</td></tr>"
        for number, result in enumerate(run.results, 1)
    )
    items = [both(limit) for limit in _LIMITS]
    if run.never is not None:
        items.insert(0, both(N_("Of these tests, {n} have never passed on a real board."), n=run.never))
    limits = "".join(f"<li>{item}</li>" for item in items)
    signs = "".join(f"<tr><th>{both(role)}</th><td></td><td></td></tr>" for role in _SIGNS)
    checked = {True: " checked", False: ""}
    return _PAGE.format(
        language="zh-CN" if is_chinese else "en",
        style=_STYLE,
        is_chinese=checked[is_chinese],
        is_english=checked[not is_chinese],
        title=both(N_("Acceptance report")),
        disclaimer=both(_DISCLAIMER),
        verdict=both(_VERDICT, **counts) + (both(_ENDED, missing=missing, count=run.count) if missing else ""),
        rig=both(_RIGS.get(run.rig.get("dut", ""), _RIGS["sim"])),
        facts="".join(f"<tr><th>{both(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts),
        examined=both(N_("What was examined")),
        shows=both(N_("what it shows")),
        result=both(N_("result")),
        remark=both(N_("remark")),
        rows=rows,
        limits_title=both(N_("Limits")),
        limits=limits,
        signatures=both(N_("Signatures")),
        signature=both(N_("name and signature")),
        date=both(N_("date")),
        signs=signs,
    )
