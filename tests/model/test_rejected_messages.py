"""Dead letters of many messages at once: each is the one that would be made alone."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME
from k2.model.dead_letter import DeadLetter
from k2.model.origin import MessageMarks
from k2.model.reasons import Reason, RejectedError
from k2.model.rejected_messages import RejectedMessages, by_error, by_reason, lines_of, since
from tests.flows.job_io import message_batch

NOW = datetime(2024, 8, 9, 1, 2, 3, 4, tzinfo=UTC)
_TIMES = st.one_of(
    st.just(NULL_TIME), st.integers(NULL_TIME, 2**63 - 1), st.integers(-(10**17), 3 * 10**17), st.integers(0, 3)
)
_BYTES = st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=20).map(str.encode))
_MESSAGES = st.tuples(_BYTES, _BYTES, _TIMES, st.sampled_from(Reason), st.text(max_size=5), st.booleans())


@given(st.lists(_MESSAGES, max_size=12), st.booleans(), st.integers(0, 15))
def test_dead_letters_of_a_batch_are_those_of_its_messages(
    drawn: list[tuple[bytes | None, bytes | None, int, Reason, str, bool]],
    is_marked: bool,  # noqa: FBT001
    offset: int,
) -> None:
    """Letters, lines, those since an offset and what they have in common: also after a way between processes."""
    source = message_batch([(key, value) for key, value, *_ in drawn], first_offset=2)
    times = np.array([time for _, _, time, *_ in drawn], dtype=np.int64)
    marks = {idx: MessageMarks(origin="a file", venue=None) for idx in range(len(drawn)) if is_marked}
    source = replace(source, kafka_timestamps=times, topic='a "topic"', marks=marks)
    rejected = [
        (idx, RejectedError(reason, error)) for idx, (_, _, _, reason, error, is_in) in enumerate(drawn) if is_in
    ]
    expected = [DeadLetter.of(source, idx, error.reason, error.error) for idx, error in rejected]
    found = RejectedMessages.of(source, rejected)
    for one in (found, pickle.loads(pickle.dumps(found))):  # noqa: S301
        assert [*one] == expected
        assert lines_of(one, NOW) == [
            msgspec.structs.replace(letter, dead_lettered_at=NOW).line() for letter in expected
        ]
        assert [*since(one, offset)] == since(expected, offset)
        assert (by_reason(one), by_error(one)) == (by_reason(expected), by_error(expected))
