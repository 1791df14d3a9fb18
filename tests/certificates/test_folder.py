"""The folder of certificates: nothing in it is overwritten, and nothing is left half written."""

from pathlib import Path

import pytest

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
