"""What may be asked over HTTP, checked field by field; a field that nobody knows is refused."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from k2.query.completeness import CompletenessParameters
from k2.query.gaps import GapFilter
from k2.query.parameters import AsOfField, BarsParameters, Name, PricesParameters, RowsParameters, Time, whole

__all__ = [
    "LIMIT",
    "AuditRequest",
    "BarsRequest",
    "CompletenessRequest",
    "EmptyRequest",
    "GapsRequest",
    "PricesRequest",
    "RowsRequest",
    "SqlRequest",
]

LIMIT: Final = 10_000
"""So many rows where no limit is given."""
LIMIT_MAX: Final = 1_000_000


def _flag(value: object) -> object:
    """Read true or false as JSON writes it; leave anything else as it is."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="So many rows at the most.")]


class RowsRequest(RowsParameters):
    """Which trades, and how many rows."""

    limit: Limit = LIMIT


class BarsRequest(BarsParameters):
    """Which trades, by intervals."""

    limit: Limit = LIMIT


class PricesRequest(PricesParameters):
    """Which trades, taken together or by intervals."""

    limit: Limit = LIMIT


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmptyRequest(_Fields):
    """No field at all."""


class GapsRequest(_Fields):
    """Which gaps."""

    exchange: Name | None = None
    symbol: Name | None = None
    as_of: AsOfField | None = Field(None, description="What was known then, or with a commit.")
    which: GapFilter = GapFilter.OPEN
    limit: Limit | None = Field(None, description="So many gaps at the most: the largest.")


class CompletenessRequest(CompletenessParameters):
    """Which trades, and how they are counted."""

    as_of: AsOfField | None = Field(None, description="What was in the table then, or with a commit.")
    by: Literal["day", "hour"] = "day"
    in_doubt: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False, strict=True, description="Only symbols whose numbering is in doubt."
    )


class AuditRequest(_Fields):
    """Which commits; where there are more than the limit, the newest."""

    start: Time | None = None
    end: Time | None = None
    limit: Limit = LIMIT


class SqlRequest(_Fields):
    """One SELECT."""

    sql: str = Field(
        description="One SELECT, in DuckDB's SQL, over trades, sequence_events, commits, dead_letters.",
        examples=["SELECT symbol, max(price) AS highest FROM trades GROUP BY symbol"],
    )
    as_of: AsOfField | None = Field(None, description="The tables as of then.")
    limit: Annotated[Limit, BeforeValidator(whole)] = Field(LIMIT, strict=True)
