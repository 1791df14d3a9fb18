"""The contenders, each in a module or folder of its own, in the order in which they take turns."""

from typing import Final

from benchmarks.peers.contender import Contender
from benchmarks.peers.contenders.bare import CONTENDER as BARE
from benchmarks.peers.contenders.bytewax_naive import CONTENDER as BYTEWAX_NAIVE
from benchmarks.peers.contenders.connect import CONTENDER as CONNECT
from benchmarks.peers.contenders.flink import CONTENDER as FLINK
from benchmarks.peers.contenders.hand_written import CONTENDER as HAND_WRITTEN
from benchmarks.peers.contenders.job import CONTENDER as JOB
from benchmarks.peers.contenders.quix import CONTENDER as QUIX
from benchmarks.peers.contenders.spark import DEDUPLICATING, PLAIN

__all__ = ["CONTENDERS"]

CONTENDERS: Final[tuple[Contender, ...]] = (
    BARE,
    JOB,
    HAND_WRITTEN,
    BYTEWAX_NAIVE,
    QUIX,
    PLAIN,
    DEDUPLICATING,
    FLINK,
    CONNECT,
)
