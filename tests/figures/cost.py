"""What a process has taken of the machine, from /proc. Shell.

CPU comes from schedstat, in nanoseconds: /proc/<pid>/stat counts ticks of 10 ms, too coarse for a gateway that needs
2 ms of a second. schedstat of a process is that of its first thread, so the threads are summed; a thread that ended
before the reading is not in the sum.
"""

from pathlib import Path


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU, of all threads of a process."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return total


def resident_kib(pid: int) -> dict[str, int]:
    """A process's resident memory: VmRSS, its peak VmHWM, and its parts RssAnon and RssFile."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) for words in lines if words[0] in ("VmRSS:", "VmHWM:", "RssAnon:", "RssFile:")}


def written_bytes(pid: int) -> int:
    """What a process has handed to disks; a file that was written in memory alone does not count."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
