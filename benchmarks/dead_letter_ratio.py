"""CPU nanoseconds per message of the limit on dead letters, on and off: `python -m benchmarks.dead_letter_ratio`.

A writer calls it once for each batch of a partition, with the dead letters of that batch.
"""

import time
from typing import Final

from k2.model.dead_letter import DeadLetter
from k2.model.dead_letter_ratio import DeadLetterRatio
from k2.ops.settings import read_settings
from tests.model.dead_letters import dead_letter

MESSAGES: Final = 2_000_000
BATCHES: Final = (1, 100, 20_000)
"""Messages of a batch: one trade at a time, a few, and a full poll."""
SHARES: Final = (0.0, 0.01, 0.2)
"""Of dead letters, all below the limit."""
CALLS_MAX: Final = 200_000
ROUNDS: Final = 5


def main() -> None:
    """Print a line for each size of batch and share of dead letters."""
    settings = read_settings({})
    print(f"K2_DLQ_RATIO_MAX={settings.dlq_ratio_max} of {settings.dlq_ratio_messages_min:,} messages; 0 is off")
    for batch in BATCHES:
        for share in SHARES:
            letters = [dead_letter(offset) for offset in range(round(batch * share))]
            if share and not letters:
                continue
            calls = min(CALLS_MAX, MESSAGES // batch)
            on, off = (
                min(cost(ratio_max, settings.dlq_ratio_messages_min, calls, batch, letters) for _ in range(ROUNDS))
                for ratio_max in (settings.dlq_ratio_max, 0.0)
            )
            print(f"{batch:6,} messages, {len(letters):5,} dead letters: on {on:8.2f} ns, off {off:6.2f} ns a message")


def cost(ratio_max: float, messages_min: int, calls: int, batch: int, letters: list[DeadLetter]) -> float:
    """Return CPU nanoseconds per message of one limit."""
    ratio = DeadLetterRatio(ratio_max, messages_min)
    begun = time.process_time_ns()
    for _ in range(calls):
        ratio.add("trades", batch, letters)
    return (time.process_time_ns() - begun) / (calls * batch)


if __name__ == "__main__":
    main()
