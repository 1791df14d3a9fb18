"""Parameters of HTTP requests, validated field by field; unknown fields are rejected."""

from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from k2.model.reasons import Reason
from k2.query.completeness import CompletenessParameters
from k2.query.gaps import GapFilter
from k2.query.history import INTERVALS_MAX
from k2.query.parameters import (
    AsOfField,
    BarsParameters,
    IntervalField,
    Name,
    PricesParameters,
    RowsParameters,
    Time,
    check_start_before_end,
    whole_float_to_int,
)

__all__ = [
    "LIMIT",
    "AuditRequest",
    "BarsRequest",
    "CompletenessRequest",
    "CorrectionsRequest",
    "DeadLetterCountsRequest",
    "DeadLettersRequest",
    "EmptyRequest",
    "FeedsRequest",
    "GapsRequest",
    "HistoryRequest",
    "PricesRequest",
    "RowsRequest",
    "SqlRequest",
    "TradesRequest",
]

LIMIT: Final = 10_000
"""Default maximum number of rows."""
LIMIT_MAX: Final = 1_000_000
DEAD_LETTERS_MAX: Final = 1_000
ERROR_CHARACTERS_MAX: Final = 4_096


def _flag(value: object) -> object:
    """Parse true or false in JSON's spelling; return any other value unchanged."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="Maximum number of rows.")]


class RowsRequest(RowsParameters):
    """Selects trades, with a maximum number of rows."""

    limit: Limit = LIMIT


class TradesRequest(RowsRequest):
    """Selects trades, as stored or as corrected."""

    corrected: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False,
        strict=True,
        description="Without cancelled trades, with corrected values in place, and a column `correction`.",
    )


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


class CorrectionsRequest(_Fields):
    """Selects corrections by their venue times; the newest if there are more than the limit."""

    exchange: Name | None = None
    symbol: Name | None = None
    start: Time | None = None
    end: Time | None = None
    limit: Limit = LIMIT


class CompletenessRequest(CompletenessParameters):
    """Selects trades, and the time span by which they are counted."""

    as_of: AsOfField | None = Field(None, description="Table contents at a time, or as of a snapshot id.")
    by: Literal["day", "hour"] = "day"
    in_doubt: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False, strict=True, description="Only symbols whose numbering is in doubt."
    )


class FeedsRequest(_Fields):
    """Selects symbols and days, of which what each feed brought is counted."""

    exchange: Name | None = None
    symbol: Name | None = None
    start: Time | None = Field(None, description="Earliest venue time.")
    end: Time | None = Field(None, description="End of the venue times.")
    by: Literal["symbol", "exchange"] = Field("symbol", description="Whether to return the rows of symbols as well.")

    @model_validator(mode="after")
    def _check_start_before_end(self) -> Self:
        check_start_before_end(self.start, self.end)
        return self


class AuditRequest(_Fields):
    """Selects commits; the newest if there are more than the limit."""

    start: Time | None = None
    end: Time | None = None
    limit: Limit = LIMIT


class HistoryRequest(_Fields):
    """Selects the intervals of the job's history; the newest if there are more than the limit."""

    start: Time | None = Field(None, description="Earliest time; 24 hours before `end` by default.")
    end: Time | None = Field(None, description="End of the times; now by default.")
    interval: IntervalField = timedelta(minutes=15)
    limit: int = Field(INTERVALS_MAX, ge=1, le=INTERVALS_MAX, description="Maximum number of intervals.")

    @model_validator(mode="after")
    def _check_start_before_end(self) -> Self:
        check_start_before_end(self.start, self.end)
        return self


class DeadLetterCountsRequest(_Fields):
    """Selects by what dead letters are counted."""

    by: Literal["reason", "error"] = Field("reason", description="By reason and topic partition, or by error.")


class DeadLettersRequest(_Fields):
    """Selects dead letters; the newest if there are more than the limit."""

    reason: Reason | None = None
    error: str | None = Field(
        None, max_length=ERROR_CHARACTERS_MAX, description="An error, with its values or as counted by error."
    )
    topic: Name | None = None
    partition: int | None = Field(None, ge=0, le=2**31 - 1)
    limit: int = Field(100, ge=1, le=DEAD_LETTERS_MAX, description="Maximum number of dead letters.")


class SqlRequest(_Fields):
    """An SQL query."""

    sql: str = Field(
        description="One SELECT in DuckDB's SQL over trades, sequence_events, commits, corrections and dead_letters.",
        examples=["SELECT symbol, max(price) AS highest FROM trades GROUP BY symbol"],
    )
    as_of: AsOfField | None = Field(None, description="State of the tables at a time, or as of a snapshot id.")
    limit: Annotated[Limit, BeforeValidator(whole_float_to_int)] = Field(LIMIT, strict=True)
