"""Certificates for tests, made by openssl: nothing of ours makes what ours has to read."""

import subprocess
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> None:
    """`name`.pem and `name`.key."""
    openssl("req", "-x509", *_NEW_KEY, "-days", 2, "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",  # Python 3.13 insists
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")  # fmt: skip


def certificate(folder: Path, file: str, common_name: str, days: int = 40) -> None:
    """`file`.pem and `file`.key, issued by "ca" for a name at 127.0.0.1; with -1 day it expired yesterday."""
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    openssl("req", *_NEW_KEY, "-subj", f"/CN={common_name}",
            "-keyout", folder / f"{file}.key", "-out", folder / f"{file}.csr")  # fmt: skip
    openssl("x509", "-req", "-in", folder / f"{file}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-days", days, "-extfile", folder / "san", "-out", folder / f"{file}.pem")  # fmt: skip
