"""The folder of certificates: nothing in it is overwritten, and nothing is left half written."""

from pathlib import Path

import pytest

from k2.certificates.certificate import CertificateError
from k2.certificates.folder import CertificateFolder
from k2.model.errors import SettingsError
from tests.certificates.test_certificate import DOCUMENT


def test_the_first_of_two_writers_stays(tmp_path: Path) -> None:
    """Its certificate and its page; the second is refused, and leaves no file."""
    folder = CertificateFolder(tmp_path)
    path = folder.write(DOCUMENT, "first")
    with pytest.raises(SettingsError, match=r"2024-08-09\.json cannot be written: File exists"):
        folder.write({**DOCUMENT, "missing": 3}, "second")
    assert sorted(one.name for one in path.parent.iterdir()) == ["2024-08-09.html", "2024-08-09.json"]
    assert path.with_suffix(".html").read_text(encoding="utf-8") == "first"
    (stored,) = folder.stored(DOCUMENT["exchange"], DOCUMENT["symbol"])
    assert stored.read() == DOCUMENT


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """In one sentence, as one that is no certificate."""
    (tmp_path / "kraken" / "BTC%2FUSD" / "2024-08-09.json").mkdir(parents=True)
    (stored,) = CertificateFolder(tmp_path).stored("kraken", "BTC/USD")
    with pytest.raises(CertificateError, match=r"2024-08-09\.json cannot be read: Is a directory; restore the file"):
        stored.read()
