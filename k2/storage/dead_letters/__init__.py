"""The dead-letter queue: rejected messages as lines of JSON in files."""

from k2.storage.dead_letters.lock import check_folder, check_free
from k2.storage.dead_letters.queue import DeadLetterQueue

__all__ = ["DeadLetterQueue", "check_folder", "check_free"]
