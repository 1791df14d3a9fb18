"""The check of the schema registry, and what it says of schemas."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from k2.doctor.findings import State
from k2.doctor.schema_registry import check_schema_registry, find_registry, schema_fits
from k2.doctor.secrets import secrets_of
from k2.kafka.schema_registry import SchemaRegistry
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings
from k2.venues import VENUES
from k2.venues.wire_format import SCHEMAS
from tests.schema_registry import StubRegistry, stub_registry

TABLE: Final = """
name = "lists"
source = "made up"
exchange = "x"
numbering = "none"
payload = "avro"
symbol = { path = "$.symbol" }
price = { path = "price" }
quantity = { path = "size" }
time = { path = "time", unit = "us" }
[[messages]]
trades = "trades[]"
"""


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    """A registry that is a stub."""
    with stub_registry() as one:
        yield one
    SCHEMAS.use(None)
    VENUES.use_tables("")


@pytest.fixture
def environment(stub: StubRegistry, tmp_path: Path) -> dict[str, str]:
    """Settings with an Avro topic."""
    (tmp_path / "lists.toml").write_text(TABLE)
    return {"K2_VENUES": str(tmp_path), "K2_TOPICS": "t=lists", "K2_SCHEMA_REGISTRY_URL": stub.url}


def schema_with(price: str) -> str:
    """Return a schema whose price has a type."""
    trade = {
        "type": "record",
        "name": "T",
        "fields": [{"name": "price", "type": price}, {"name": "size", "type": "string"}],
    }
    trades = {"name": "trades", "type": {"type": "array", "items": trade}}
    return json.dumps({"type": "record", "name": "M", "fields": [{"name": "symbol", "type": "string"}, trades]})


def test_the_registry_is_asked(stub: StubRegistry, environment: dict[str, str]) -> None:
    """One finding if it answers; an error of the settings is the finding."""
    settings = read_settings(environment)
    registry = find_registry(settings)
    assert isinstance(registry, SchemaRegistry)
    with closing(registry):
        [finding] = check_schema_registry(settings, registry)
        assert (finding.state, finding.text) == (State.OK, "the registry answers, for 1 topic")
        stub.page = b"<html>"
        with pytest.raises(SettingsError, match="not that of a schema registry"):
            [*check_schema_registry(settings, registry)]
    del environment["K2_SCHEMA_REGISTRY_URL"]
    missing = read_settings(environment)
    with pytest.raises(SettingsError, match="set K2_SCHEMA_REGISTRY_URL"):
        [*check_schema_registry(missing, find_registry(missing) or registry)]
    assert find_registry(read_settings({})) is None


def test_a_binary_float_is_named(stub: StubRegistry, environment: dict[str, str]) -> None:
    """With the path of the field and the schema; text is exact, and a schema that is not there is a failure."""
    registry = find_registry(read_settings(environment))
    assert isinstance(registry, SchemaRegistry)
    stub.register("t", {"schema": schema_with("double")})
    stub.register("t", {"schema": schema_with("string")})
    values = [b"\0\0\0\0" + bytes([number]) for number in (2, 1, 2, 3)] + [b"{}"]
    with closing(registry):
        findings = [*schema_fits("t", "lists", values)]
    assert [one.state for one in findings] == [State.WARNING, State.OK, State.FAILED]
    assert findings[0].text == (
        "schema 1 has trades[].price as a binary float, which is read as its shortest decimal; use a decimal or text "
        "in the schema"
    )
    assert findings[2].text == "the registry has no schema 3; register it, or correct the producer"
    assert [*schema_fits("t", "okx", values)] == [*schema_fits("t", "k2", values)] == []


def test_its_login_is_hidden(environment: dict[str, str], tmp_path: Path) -> None:
    """That of the properties, and that of the addresses."""
    file = tmp_path / "r.properties"
    file.write_text("basic.auth.user.info=me:hunter2")
    addresses = "https://me:swordfish@a,https://me:tr%40p@b"
    settings = read_settings(
        {**environment, "K2_SCHEMA_REGISTRY_CONFIG": str(file), "K2_SCHEMA_REGISTRY_URL": addresses}
    )
    assert {"hunter2", "swordfish", "tr@p"} <= secrets_of(settings)
