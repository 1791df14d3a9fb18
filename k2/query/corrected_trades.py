"""The view `corrected_trades`: trades as their venues left them, without those that were cancelled."""

from typing import Final

__all__ = ["CORRECTED_TRADES", "CORRECTION_VIEWS"]

# A correction may be corrected in turn, under the id that it gave, and always by a later one: so the chain ends. UNION
# drops what another path has reached already.
CORRECTED_TRADES: Final = """
    WITH RECURSIVE placed AS (
        SELECT exchange, symbol, trade_id, what, coalesce(new_trade_id, trade_id) AS new_id, new_price, new_quantity,
               row_number() OVER (
                   ORDER BY "timestamp", kafka_timestamp NULLS FIRST, topic, partition, "offset", "index"
               ) AS place
        FROM corrections
    ), chain AS (
        SELECT * FROM placed
        QUALIFY row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY place DESC) = 1
        UNION
        SELECT chain.exchange, chain.symbol, chain.trade_id, later.what, later.new_id,
               coalesce(later.new_price, chain.new_price), coalesce(later.new_quantity, chain.new_quantity), later.place
        FROM chain JOIN placed AS later
            ON later.exchange = chain.exchange AND later.symbol = chain.symbol AND later.trade_id = chain.new_id
            AND later.place > chain.place
        WHERE chain.what = 'corrected'
    ), outcome AS (
        SELECT * FROM chain
        QUALIFY row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY place DESC) = 1
    )
    SELECT trades.* REPLACE (
               coalesce(outcome.new_id, trades.trade_id) AS trade_id,
               coalesce(outcome.new_price, trades.price) AS price,
               coalesce(outcome.new_quantity, trades.quantity) AS quantity
           ), outcome.what AS correction
    FROM trades LEFT JOIN outcome
        ON outcome.exchange = trades.exchange AND outcome.symbol = trades.symbol AND outcome.trade_id = trades.trade_id
    WHERE outcome.what IS DISTINCT FROM 'cancelled'
"""
"""The statement of the view, over `trades` and `corrections`; `correction` is `corrected`, or null."""
CORRECTION_VIEWS: Final = {"corrected_trades": CORRECTED_TRADES}
"""Name of each view over `trades` and `corrections`, and its statement."""
