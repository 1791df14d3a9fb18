"""`k2 head`: say which number the newest trade of a symbol has."""

from typing import Annotated, Final

import msgspec
import typer

from k2.cli.console import Json, print_record
from k2.cli.name_hints import did_you_mean, quote_names
from k2.cli.options import parse_name, user_at_host
from k2.kafka.producer import TradeProducer
from k2.model.errors import SettingsError
from k2.model.origin import ORIGIN_HEADER, VENUE_HEADER, person_origin
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, checked_topic, read_settings
from k2.query.symbol_topics import topic_partition_of

__all__ = ["head"]

VENUE: Final = "k2-head"
_LONG_MAX: Final = 2**63 - 1


def head(
    exchange: Annotated[str, typer.Argument(parser=parse_name, metavar="EXCHANGE")],
    symbol: Annotated[str, typer.Argument(parser=parse_name, metavar="SYMBOL")],
    number: Annotated[
        int, typer.Argument(min=1, max=_LONG_MAX, metavar="NUMBER", help="Sequence number of its newest trade.")
    ],
    *,
    by: Annotated[str | None, typer.Option(parser=parse_name, help="Name who says so; user@host by default.")] = None,
    topic: Annotated[
        str | None, typer.Option(parser=parse_name, help="Publish to this topic; by default that of its trades.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the job the number of a symbol's newest trade, so that a gap opens for those that never came.

    A gap is otherwise opened by the next trade, or by a heartbeat. The number is published to the topic of the symbol's
    trades. When the job has read it, those numbers up to it that have not arrived are a gap; trades that come later
    fill it. If the number was wrong, accept the gap with k2 gaps accept.
    """
    settings = read_settings()
    where = _where(settings, exchange, symbol, topic)
    origin = person_origin(user_at_host() if by is None else by)
    value = {"type": "head", "exchange": exchange, "symbol": symbol, "sequence": number}
    headers = [(ORIGIN_HEADER, origin.encode()), (VENUE_HEADER, VENUE.encode())]
    with TradeProducer(settings, where.topic) as producer:
        key = f"{exchange}|{symbol}".encode()
        producer.send(key, msgspec.json.encode(value), partition=where.partition, headers=headers)
    sequence = number if as_json else str(number)
    record = {"topic": where.topic, "exchange": exchange, "symbol": symbol, "sequence": sequence, "origin": origin}
    print_record(record, as_json=as_json)


def _where(settings: Settings, exchange: str, symbol: str, topic: str | None) -> TopicPartition:
    """Return where to publish: partition -1 lets the key decide.

    Raises:
        SettingsError: no trade of the symbol has a contiguous number, or the job does not read the topic.
    """
    found = topic_partition_of(settings, exchange, symbol)
    if found is None:
        names = f"no trade of {quote_names(exchange, symbol)} with a contiguous number is stored"
        raise SettingsError(names + did_you_mean(settings, exchange, symbol))
    if topic is not None and topic != found.topic:
        found = TopicPartition(_checked(topic), -1)
    if found.topic not in dict(settings.topics):
        raise SettingsError(f"topic {found.topic!r} is not in K2_TOPICS, so the job would not read it; see --topic")
    return found


def _checked(topic: str) -> str:
    try:
        return checked_topic(topic)
    except ValueError as error:
        raise SettingsError(f"--topic: {error}") from None
