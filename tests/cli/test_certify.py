"""`k2 certify` and `k2 verify`: options, output and exit codes."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from k2.certificates.page import page
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, made, numbered

K2 = Callable[..., Result]


@pytest.fixture
def stored(settings: Settings) -> None:
    """Store two symbols, one of which lacks a number and has markup in its name."""
    rows = [numbered(1, 1), numbered(2, 2), numbered(1, 1, symbol="<b>"), numbered(3, 2, symbol="<b>")]
    append(made(settings, TableName.TRADES), rows)


def test_a_day_is_certified_and_verified(settings: Settings, stored: None, k2: K2, tmp_path: Path) -> None:
    """A key is made with mode 0600, certificates are signed by it, and a changed one is found: exit code 1."""
    key, folder = tmp_path / "key.pem", tmp_path / "out"
    options = ("--exchange", "binance", "--day", "2024-08-09", "--output", str(folder))
    result = k2("certify", *options, "--new-key", str(key))
    assert result.exit_code == 0
    assert re.search(r"<b> +open +2 +1 +1 +1 number is missing", result.stdout)
    assert "2 certificates (1 complete, 1 open), 2 of them new" in " ".join(result.stderr.split()) or (
        "2 certificates (1 open, 1 complete), 2 of them new" in result.stderr
    )
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    documents = json.loads(k2("certify", *options, "--key", str(key), "--json").stdout)
    assert [(one["symbol"], one["is_new"]) for one in documents] == [("<b>", False), ("BTCUSDT", False)]
    verified = k2("verify", str(folder), "--public-key", f"{key}.pub", "--json")
    found = json.loads(verified.stdout)
    assert verified.exit_code == 0
    assert [(one["holds"], one["signed_by"]) for one in found] == [(True, documents[0]["public_key"])] * 2
    path = Path(documents[0]["path"])
    path.write_text(path.read_text(encoding="utf-8").replace('"missing": 1', '"missing": 0'), encoding="utf-8")
    changed = k2("verify", str(path))
    assert changed.exit_code == 1
    assert (
        "DIFFERS\n  signature: the certificate is not what its key signed\n  missing: 0 then, 1 now" in changed.stdout
    )


def test_a_page_has_no_markup_of_its_names(stored: None, k2: K2, tmp_path: Path) -> None:
    """Nor scripts or links; all counts are on it."""
    options = ("--exchange", "binance", "--day", "2024-08-09", "--output", str(tmp_path))
    result = k2("certify", *options, "--json")
    document = json.loads(result.stdout)[0]
    text = Path(document["path"]).with_suffix(".html").read_text(encoding="utf-8")
    assert text == page({name: value for name, value in document.items() if name not in {"path", "is_new"}})
    assert "binance &lt;b&gt;, 2024-08-09" in text
    assert not re.search(r"<b>|<script|href=|src=|https?:", text)
    assert all(part in text for part in ("open", "1 number is missing", document["root"], "not signed"))
    assert "not signed; use --key FILE" in k2("certify", *options).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["certify", "--day", "2024-08-09"], "--exchange and --day are needed"),
        (["certify", "--exchange", "x", "--day", "9.8.2024"], "--day '9.8.2024': not a day"),
        (["certify", "--exchange", "x", "--day", "2024-08-09"], "nothing is known of x on 2024-08-09"),
        (
            ["certify", "--exchange", "binance", "--day", "2024-08-09", "--key", "none.pem"],
            "--key none.pem: No such file",
        ),
        (
            ["certify", "--exchange", "x", "--day", "2024-08-09", "--key", "a", "--new-key", "b"],
            "--key and --new-key cannot be used together",
        ),
        (["verify", "none.json"], "none.json cannot be read: No such file"),
        (["verify", ".", "--as-of", "2024-08-09", "--without-table"], "cannot be used together"),
    ],
)
def test_wrong_usage_is_refused(stored: None, k2: K2, arguments: list[str], says: str) -> None:
    """Exit code 2, and one sentence."""
    result = k2(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.slow
def test_keys_that_others_can_read_are_refused(stored: None, k2: K2, tmp_path: Path) -> None:
    """So is a file that exists, and a key of another kind."""
    key = tmp_path / "key.pem"
    refused = k2("certify", "--new-key", str(key), "--day", "2024-08-09")
    assert (refused.exit_code, key.exists()) == (2, False)
    assert k2("certify", "--new-key", str(key)).exit_code == 0
    assert "File exists; name a file that does not exist" in k2("certify", "--new-key", str(key)).stderr
    options = ("certify", "--exchange", "binance", "--day", "2024-08-09", "--key")
    key.chmod(0o644)
    assert "others can read it" in k2(*options, str(key)).stderr
    public = tmp_path / "key.pem.pub"
    public.chmod(0o600)
    assert "not a private key in PEM" in k2(*options, str(public)).stderr
    key.chmod(0o600)
    assert "not an Ed25519 public key" in k2("verify", str(tmp_path), "--public-key", str(key)).stderr
