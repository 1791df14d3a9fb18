"""Checkpoints as bytes: read as they were written, or refused."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.storage.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointPlace,
    NamedCheckpoints,
    decode_checkpoint,
    encode_checkpoint,
    named_checkpoints_text,
    parse_named_checkpoints,
    place_of,
)

STATE: dict[str, Any] = {
    "format": 4,
    "symbols": [["binance", "BTC\u00a0USDT"]],
    "slots": bytes(range(40)),
    "sequences": {0: {"sessions": [[b"\0" * 16, -5, 2**62]], "doubt": None}},
}
EXAMPLE = Checkpoint("table", "ledger", 3, [("trades", 0, 77)], 12, STATE, {"format": 2, "clocks": []})


@given(slots=st.binary(), numbers=st.dictionaries(st.integers(0, 2**31), st.integers(-(2**63), 2**63 - 1)))
def test_a_checkpoint_is_read_as_it_was_written(slots: bytes, numbers: dict[int, int]) -> None:
    """Bytes, 64-bit integers and keys that are integers keep their type."""
    sequence = {**STATE, "slots": slots, "sequences": numbers}
    checkpoint = msgspec.structs.replace(EXAMPLE, sequence=sequence)
    data = encode_checkpoint(checkpoint)
    assert decode_checkpoint(data, place_of("file", 0, data)) == checkpoint


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    ],
)
def test_a_torn_checkpoint_is_refused(damage: Callable[[bytes], bytes]) -> None:
    """Whatever was cut or changed."""
    data = encode_checkpoint(EXAMPLE)
    with pytest.raises(CheckpointError, match=r"^file is torn or was changed$"):
        decode_checkpoint(damage(data), place_of("file", 0, data))


def test_another_format_or_content_is_refused() -> None:
    """A later format, and bytes that are no checkpoint though their digest is right."""
    later = encode_checkpoint(msgspec.structs.replace(EXAMPLE, format=2))
    with pytest.raises(CheckpointError, match="has format 2; this version reads 1"):
        decode_checkpoint(later, place_of("file", 0, later))
    for data in (b"short", bytes(8) + b"not zstd", encode_checkpoint(EXAMPLE)[:8] + b"(\xb5/\xfd"):
        with pytest.raises(CheckpointError, match=r"^file cannot be read: "):
            decode_checkpoint(data, place_of("file", 0, data))


def test_the_names_have_a_text_form() -> None:
    """The value of the table property."""
    place = CheckpointPlace("checkpoints-1.bin", 5, 7, "00ff")
    named = NamedCheckpoints({3: [place, place], 11: [place]})
    assert parse_named_checkpoints(named_checkpoints_text(named)) == named
    assert named.files == {"checkpoints-1.bin"}
    for text in ('{"format":9}', "damaged", '{"groups":7}'):
        assert parse_named_checkpoints(text) == NamedCheckpoints()
