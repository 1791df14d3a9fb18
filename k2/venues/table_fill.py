"""How missing trades of a venue can be had later: the section `[fill]` of its table."""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Fill"]


class Fill(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For how long the venue hands out a trade; without `days` and `trades` that is not known."""

    days: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Days after a trade until which the venue has it.")
    ] = None
    trades: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="The venue has only this many of the newest trades of a symbol."),
    ] = None
