"""The contenders, each in a module or folder of its own, in the order in which they take turns."""

from typing import Final

from benchmarks.peers.contender import Contender
from benchmarks.peers.contenders.bare import CONTENDER as BARE
from benchmarks.peers.contenders.hand_written import CONTENDER as HAND_WRITTEN
from benchmarks.peers.contenders.job import CONTENDER as JOB

__all__ = ["CONTENDERS"]

CONTENDERS: Final[tuple[Contender, ...]] = (BARE, JOB, HAND_WRITTEN)
