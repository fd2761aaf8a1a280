"""What certificates say of themselves: read as openssl reads them."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.certificate import read_pem
from tests.edge.certificates import authority, certificate, openssl

pytestmark = pytest.mark.needs("openssl")


def dates_of(file: Path) -> list[int]:
    """Both ends as openssl prints them: notBefore=Nov 25 00:27:50 2026 GMT."""
    command = ["openssl", "x509", "-noout", "-dates", "-in", str(file)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(ssl.cert_time_to_seconds(line.partition("=")[2])) for line in printed.splitlines()]


@pytest.mark.parametrize("days", [-1, 40, 20000])  # from 2050 on a time has another form
def test_name_and_dates_are_those_that_openssl_prints(tmp_path: Path, days: int) -> None:
    authority(tmp_path, "ca")
    certificate(tmp_path, "gateway", "jt-0042", days)
    (found,) = read_pem((tmp_path / "gateway.pem").read_bytes())
    assert found.common_name == "jt-0042"
    assert [found.not_before_s, found.not_after_s] == dates_of(tmp_path / "gateway.pem")
    if days == 20000:
        assert datetime.fromtimestamp(found.not_after_s, UTC).year > 2049


@pytest.mark.parametrize(
    ("subject", "name"), [("/O=示例化工/OU=a/CN=罐区-1/serialNumber=7", "罐区-1"), ("/O=nobody", "")]
)
def test_the_common_name_among_other_fields(tmp_path: Path, subject: str, name: str) -> None:
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-utf8", "-subj", subject,
            "-keyout", tmp_path / "a.key", "-out", tmp_path / "a.pem")  # fmt: skip
    (found,) = read_pem((tmp_path / "a.pem").read_bytes())
    assert found.common_name == name


def test_a_file_of_several_and_a_file_of_none(tmp_path: Path) -> None:
    authority(tmp_path, "ca")
    authority(tmp_path, "other-ca")
    together = (tmp_path / "ca.pem").read_bytes() + b"# a remark\n" + (tmp_path / "other-ca.pem").read_bytes()
    assert [found.common_name for found in read_pem(together)] == ["ca", "other-ca"]
    assert read_pem((tmp_path / "ca.key").read_bytes()) == []
    assert read_pem(b"") == []


def test_damage_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    """Cut at any byte, and with any byte of its head changed."""
    authority(tmp_path, "ca")
    whole = ssl.PEM_cert_to_DER_cert((tmp_path / "ca.pem").read_text())
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            read_pem(ssl.DER_cert_to_PEM_cert(whole[:length]).encode())
    for at in range(200):
        spoiled = bytearray(whole)
        spoiled[at] ^= 0xFF
        try:
            read_pem(ssl.DER_cert_to_PEM_cert(bytes(spoiled)).encode())
        except ValueError:
            continue


def test_the_authorities_of_this_machine_can_all_be_read() -> None:
    file = ssl.get_default_verify_paths().cafile
    if file is None or not Path(file).exists() or shutil.which("openssl") is None:
        pytest.skip("no file of authorities")
    data = Path(file).read_bytes()
    assert len(read_pem(data)) == data.count(b"BEGIN CERTIFICATE")
