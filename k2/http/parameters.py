"""Parameters of HTTP requests, validated field by field; unknown fields are rejected."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from k2.query.completeness import CompletenessParameters
from k2.query.gaps import GapFilter
from k2.query.parameters import (
    AsOfField,
    BarsParameters,
    Name,
    PricesParameters,
    RowsParameters,
    Time,
    whole_float_to_int,
)

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
"""Default maximum number of rows."""
LIMIT_MAX: Final = 1_000_000


def _flag(value: object) -> object:
    """Parse true or false in JSON's spelling; return any other value unchanged."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="Maximum number of rows.")]


class RowsRequest(RowsParameters):
    """Selects trades, with a maximum number of rows."""

    limit: Limit = LIMIT


class BarsRequest(BarsParameters):
    """Selects trades, aggregated by interval."""

    limit: Limit = LIMIT


class PricesRequest(PricesParameters):
    """Selects trades, aggregated in total or by interval."""

    limit: Limit = LIMIT


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmptyRequest(_Fields):
    """No parameters."""


class GapsRequest(_Fields):
    """Selects gaps."""

    exchange: Name | None = None
    symbol: Name | None = None
    as_of: AsOfField | None = Field(None, description="State at a time, or as of a snapshot id.")
    which: GapFilter = GapFilter.OPEN
    limit: Limit | None = Field(None, description="Maximum number of gaps; the largest are returned.")


class CompletenessRequest(CompletenessParameters):
    """Selects trades, and the time span by which they are counted."""

    as_of: AsOfField | None = Field(None, description="Table contents at a time, or as of a snapshot id.")
    by: Literal["day", "hour"] = "day"
    in_doubt: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False, strict=True, description="Only symbols whose numbering is in doubt."
    )


class AuditRequest(_Fields):
    """Selects commits; the newest if there are more than the limit."""

    start: Time | None = None
    end: Time | None = None
    limit: Limit = LIMIT


class SqlRequest(_Fields):
    """An SQL query."""

    sql: str = Field(
        description="One SELECT in DuckDB's SQL over trades, sequence_events, commits and dead_letters.",
        examples=["SELECT symbol, max(price) AS highest FROM trades GROUP BY symbol"],
    )
    as_of: AsOfField | None = Field(None, description="State of the tables at a time, or as of a snapshot id.")
    limit: Annotated[Limit, BeforeValidator(whole_float_to_int)] = Field(LIMIT, strict=True)
