"""Conditions of a table, compiled to functions: which messages and entries they fit."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from k2.venues.table import Condition, CorrectionRule, VenueTable
from k2.venues.table_paths import ABSENT, finder, parse_path

__all__ = ["EntryTest", "Test", "all_of", "condition_test", "correction_test", "is_container", "other_entry_test"]

Test = Callable[[Any], bool]
EntryTest = Callable[[Any, Any], bool]
"""Says something of (an entry, the message)."""


def all_of(conditions: Sequence[Condition]) -> Test:
    """Return the function that says of a value whether all conditions hold."""
    tests = [condition_test(condition) for condition in conditions]
    return tests[0] if len(tests) == 1 else lambda root: all(test(root) for test in tests)


def correction_test(rule: CorrectionRule) -> EntryTest:
    """Return the function that says of an entry whether a rule makes it a correction."""
    tests = [(condition_test(condition), parse_path(condition.path).is_root) for condition in rule.when]
    return lambda item, root: all(test(root if is_root else item) for test, is_root in tests)


def other_entry_test(table: VenueTable) -> EntryTest:
    """Return the function that says of an entry whether it is a correction, or left out by its kind."""
    left_out = [condition_test(Condition(path=one.path, one_of=one.skipped)) for one in table.kinds if one.skipped]
    corrections = [correction_test(rule) for rule in table.corrections]

    def is_other(item: Any, root: Any) -> bool:
        return any(test(item) for test in left_out) or any(test(item, root) for test in corrections)

    return is_other


def condition_test(condition: Condition) -> Test:
    """Return the function that says of a value whether a condition holds; paths begin at the value."""
    find = finder(parse_path(condition.path))
    if condition.absent:

        def is_absent(root: Any) -> bool:
            value = find(root)
            return value is ABSENT or value is None

        return is_absent
    if condition.present:
        return lambda root: find(root) is not ABSENT
    if condition.matches is not None:
        match = re.compile(condition.matches, re.DOTALL).fullmatch

        def is_matched(root: Any) -> bool:
            value = find(root)
            return type(value) is str and match(value) is not None

        return is_matched
    values = {(type(value), value) for value in condition.one_of or ()}

    def is_one(root: Any) -> bool:
        value = find(root)
        return not is_container(value) and (type(value), value) in values

    return is_one


def is_container(value: object) -> bool:
    """Return whether a value of JSON is an object or an array."""
    return type(value) is dict or type(value) is list
