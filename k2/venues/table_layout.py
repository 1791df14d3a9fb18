"""Layout of a table's program: what the kernel of all tables reads, as records of words in one array.

A single array of 64-bit words, because every array that a compiled function takes costs the kernel nanoseconds at each
call. A reference to a record is its offset; 0, the offset of the header, stands for none. A text is one byte a word.
"""

from typing import Final

import numpy as np

__all__ = [
    "ABSENT_OR_NULL",
    "ACCEPTS",
    "AFFIXES",
    "ARRAY",
    "BARE_FORMS",
    "BARE_SKIPS",
    "BOUND",
    "BY_MS_OR_US",
    "BY_NANOSECONDS",
    "BY_NUMBER",
    "BY_RFC_3339",
    "BY_SIGN",
    "CLOSES",
    "CONDITION_WORDS",
    "DEAD",
    "DIGITS",
    "EDGE_BIT",
    "EDGE_CHILD",
    "EDGE_KEY",
    "EDGE_MASK",
    "EDGE_NEXT",
    "EDGE_SIZE",
    "ELEMENTS",
    "EXCHANGE",
    "FIELD_WORDS",
    "FIRST_EDGES",
    "FIXED_FIELDS",
    "FORM_FIELDS",
    "FORM_GROUP",
    "FORM_HEAD",
    "FORM_LIST",
    "FORM_NEWEST_FIRST",
    "FORM_SKIPS",
    "FORM_WHEN",
    "FRACTION",
    "GROUP",
    "HEAD_NAME",
    "HEAD_NAME_SLOT",
    "HEAD_NONE",
    "HEAD_NUMBER",
    "HEAD_NUMBER_SLOT",
    "ITEM_SLOT",
    "ITEM_SLOTS",
    "KINDS",
    "LEFT_OUT",
    "MARKET",
    "NON_MARKET",
    "OBJECT",
    "ONE_OF",
    "OPENS",
    "OPTIONAL",
    "OWN",
    "PATTERN",
    "POWER",
    "PRESENT",
    "PRICE",
    "QUANTITY",
    "ROOT_SLOT",
    "ROOT_SLOTS",
    "ROOT_STATE",
    "RULE",
    "SCALE",
    "SEQUENCE",
    "SIDE",
    "SPECS",
    "SPEC_WORDS",
    "SYMBOL",
    "TAKES_ARRAYS",
    "TEXTS",
    "TIME",
    "TRADE_ID",
    "UNKNOWN",
    "VALUES",
    "WRAPPED",
    "WRAPPED_FORMS",
    "WRAPPED_SKIPS",
]

OBJECT: Final = np.uint64(7)
"""Kind of a value, in addition to those of `k2.venues.scan`."""
ARRAY: Final = np.uint64(8)
"""Kind of a value, in addition to those of `k2.venues.scan`."""


def _columns(count: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(number) for number in range(count))


# The header. Its first three words are those of an edge, that of all keys that no path names: DEAD is its child, the
# state of a value to which no path leads.
(_, _, DEAD, ROOT_STATE, ROOT_SLOTS, ITEM_SLOTS, OWN, WRAPPED) = _columns(8)
(TAKES_ARRAYS, BARE_FORMS, WRAPPED_FORMS, SPECS, KINDS) = (np.uint64(number) for number in range(8, 13))
(BARE_SKIPS, WRAPPED_SKIPS, TEXTS) = (np.uint64(number) for number in range(13, 16))
HEADER_WORDS: Final = 16

# A state: where the scanner is on the paths of the table. ELEMENTS are the states of the elements of an array, the last
# of them that of all others, and a 0. FIRST_EDGES is the first of 64 words: the first edge of the keys whose first byte
# has these lower six bits.
(ROOT_SLOT, ITEM_SLOT, GROUP, OPENS, CLOSES, ELEMENTS, FIRST_EDGES) = _columns(7)
EDGE_MASK: Final = np.uint64(63)
STATE_WORDS: Final = 6 + 64

# An edge: a key of an object, and the state of its value. EDGE_KEY is the first word of the key's bytes.
(EDGE_NEXT, EDGE_BIT, EDGE_CHILD, EDGE_SIZE, EDGE_KEY) = _columns(5)

# A rule of messages to skip, in a list that begins with their number: its conditions and the number of its reason.
# A text to skip, likewise: the number of its reason, its size, and its bytes.

# A form, in a list that begins with their number. FORM_FIELDS is the first of the fields: their slots, and whether they
# are those of an element. FORM_SKIPS are the rules of messages to skip that may hold as well, FORM_LIST is the slot of
# the list of trades; 0 if there is none, or several. FORM_HEAD is the record of messages that only name the last number
# of their symbol; 0 for those with trades.
(FORM_WHEN, FORM_SKIPS, FORM_GROUP, FORM_LIST, FORM_NEWEST_FIRST, FORM_HEAD, FORM_FIELDS) = _columns(7)
FIELD_WORDS: Final = np.uint64(2)

# A message that only names a number: what the table says of the number and of the name, the slot of each, and the
# values that are no number.
HEAD_NUMBER, HEAD_NUMBER_SLOT, HEAD_NAME, HEAD_NAME_SLOT, HEAD_NONE = (np.uint64(number) for number in (0, 3, 4, 7, 8))

# The fields of a trade. The fields of the table's kinds follow them.
(EXCHANGE, SYMBOL, PRICE, QUANTITY, TIME, SIDE, SEQUENCE, BOUND, TRADE_ID) = _columns(9)
FIXED_FIELDS: Final = np.uint64(9)

# What the table says of a field. RULE and what follows it differ by the field.
(ACCEPTS, OPTIONAL, PATTERN, RULE, VALUES) = _columns(5)
(FRACTION, DIGITS, POWER) = np.uint64(4), np.uint64(5), np.uint64(6)
SCALE: Final = np.uint64(4)
"""Power of ten of the unit of a price or quantity, in two's complement."""
SPEC_WORDS: Final = np.uint64(7)

# RULE of a time, a side, a price or quantity (whether it is absolute), and the bound of a range (whether it is its
# count).
(BY_RFC_3339, BY_MS_OR_US, BY_NANOSECONDS, BY_NUMBER) = _columns(4)
BY_SIGN: Final = np.uint64(1)

# The kind of a trade, by the values of the table's kinds. The message of one that is UNKNOWN is left.
(UNKNOWN, MARKET, NON_MARKET, LEFT_OUT) = _columns(4)

# A condition, in a list that begins with their number: slot, test, and values or pattern.
CONDITION_WORDS: Final = np.uint64(3)
(PRESENT, ABSENT_OR_NULL, ONE_OF, AFFIXES) = _columns(4)
