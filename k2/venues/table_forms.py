"""Compiled rules of messages: which form of a table a message has, where its fields are, and why it is skipped."""

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, inlined
from k2.venues.scan import ABSENT, KIND
from k2.venues.table_layout import (
    ARRAY,
    BARE_FORMS,
    BARE_SKIPS,
    FIELD_WORDS,
    FORM_FIELDS,
    FORM_SKIPS,
    FORM_WHEN,
    OBJECT,
    OWN,
    SPEC_WORDS,
    SPECS,
    TAKES_ARRAYS,
    WRAPPED,
    WRAPPED_FORMS,
    WRAPPED_SKIPS,
)
from k2.venues.table_values import all_hold

__all__ = ["form_of", "is_of_item", "slot_of", "spec_of"]

_ZERO, _ONE, _TWO = (np.uint64(number) for number in range(3))


@inlined
def form_of(
    data: NDArray[np.uint8], program: NDArray[np.uint64], fields: NDArray[np.uint64]
) -> tuple[np.uint64, np.uint64]:
    """Return (the form of a message, why it is skipped); each is 0 if there is none."""
    is_wrapped = (
        program[WRAPPED_FORMS] != _ZERO
        and fields[program[OWN], KIND] == ABSENT
        and fields[program[WRAPPED], KIND] != ABSENT
    )
    if is_wrapped and not _is_message(program, fields[program[WRAPPED], KIND]):
        return _ZERO, _ZERO
    forms = program[WRAPPED_FORMS if is_wrapped else BARE_FORMS]
    for idx in range(program[forms]):
        form: np.uint64 = program[forms + _ONE + idx]
        if all_hold(data, fields, program, program[form + FORM_WHEN]):
            return form, _skipping_rule(data, fields, program, program[form + FORM_SKIPS])
    return _ZERO, _skipping_rule(data, fields, program, program[WRAPPED_SKIPS if is_wrapped else BARE_SKIPS])


@inlined
def _is_message(program: NDArray[np.uint64], kind: np.uint64) -> bool:
    return bool(kind == OBJECT or (kind == ARRAY and program[TAKES_ARRAYS] != _ZERO))


@allocation_free
def _skipping_rule(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], program: NDArray[np.uint64], rules: np.uint64
) -> np.uint64:
    """Return the number of the reason of the first rule of a list that holds; 0 if none does."""
    rule = rules + _ONE
    for _ in range(program[rules]):
        if all_hold(data, fields, program, program[rule]):
            return np.uint64(program[rule + _ONE])
        rule += _TWO
    return _ZERO


@inlined
def slot_of(program: NDArray[np.uint64], form: np.uint64, field: np.uint64, base: np.uint64) -> np.uint64:
    """Return the slot of a field: one of the message, or one of an element."""
    place = form + FORM_FIELDS + field * FIELD_WORDS
    slot: np.uint64 = program[place]
    return slot + (base if program[place + _ONE] != _ZERO else _ZERO)


@inlined
def is_of_item(program: NDArray[np.uint64], form: np.uint64, field: np.uint64) -> bool:
    """Return whether a field is one of an element, not of the message."""
    return bool(program[form + FORM_FIELDS + field * FIELD_WORDS + _ONE] != _ZERO)


@inlined
def spec_of(program: NDArray[np.uint64], field: np.uint64) -> np.uint64:
    """Return the place of what the table says of a field."""
    specs: np.uint64 = program[SPECS]
    return specs + field * SPEC_WORDS
