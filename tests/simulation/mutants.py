"""Deliberate bugs, at least one for each of laws 1 to 7, which the simulator must find."""

from typing import Final

from tests.simulation.checkpoint_mutants import CHECKPOINT_MUTANTS
from tests.simulation.correction_mutants import CORRECTION_MUTANTS
from tests.simulation.mutate import planted

__all__ = ["MUTANTS"]


_COMMIT: Final = "k2.iceberg.commit:Committer"
_SEQUENCE: Final = "k2.sequencing.sequence:SymbolSequence"
_HISTORY: Final = "k2.restore.tables:TableStateSource"
_LETTERS: Final = "k2.storage.dead_letters"

_SECOND: Final = """\
self._table._do_commit(updates, requirements)
__import__("k2.ops.failpoints", fromlist=["failpoint"]).failpoint("commit.landed")
self._table._do_commit(self._table.transaction().set_properties(self._properties)._updates, ())"""
_DECODED: Final = "return Decoded(trades, rejected, skipped, kinds.non_market, kinds.heads, dated_ahead, corrections)"
_REJECTED_BATCH: Final = """\
why = dict(rejected)
good = columns.messages < min(why, default=len(batch))
for message in set(columns.messages[~good].tolist()):
    why[message] = RejectedError(Reason.INVALID, "value: next to one that is")
trades = TradeBatch(batch, columns.take(np.flatnonzero(good)))
rejected = sorted(why.items())
return Decoded(trades, rejected, skipped, kinds.non_market, kinds.heads, dated_ahead, corrections)"""

_BEHIND: Final = """files = [file for file in LocalFolder(folder).files() if file.series == self._series]
position = Position(files[-1].number, files[-1].bytes) if files else BEGIN"""

MUTANTS: Final = (
    planted(
        "dead letters counted by every writer",
        1,
        "every writer counts a message without a trade, not only one of them",
        ("operators.route:_range_writers", "consumed if writer == counting_writer else range_only", "consumed"),
    ),
    planted(
        "skipped messages of a replay counted again",
        1,
        "a replayed message that is no trade is counted though the table's progress has it",
        (
            "k2.iceberg.partition_counts:PartitionCounts.add_range",
            "consumed.skipped >= counts.base",
            "consumed.skipped >= 0",
        ),
    ),
    planted(
        "duplicates not counted",
        1,
        "the partition counts leave out what was dropped",
        (
            "k2.iceberg.partition_counts:PartitionCounts.count",
            "counts.duplicates += int(by_verdict[DUPLICATE])",
            "counts.duplicates += 0",
        ),
    ),
    planted(
        "conflicts not counted",
        1,
        "the partition counts leave out what is stored with other content",
        (
            "k2.iceberg.partition_counts:PartitionCounts.count",
            "counts.dead_letters += int(by_verdict[CONFLICT])",
            "counts.dead_letters += 0",
        ),
    ),
    planted(
        "conflicts not set aside",
        1,
        "what is stored with other content is counted, but written to no file",
        (
            "k2.iceberg.trades_writer:TradesWriter._write_slice",
            "self._conflicts.add(trade_slice, conflicts)",
            "pass",
        ),
    ),
    planted(
        "commits without notes",
        3,
        "a commit leaves no note for the commit log",
        ("k2.iceberg.commit_notes:CommitNotes.__call__", "swap.set_properties", "(lambda properties: None)"),
    ),
    planted(
        "replay filter off",
        2,
        "rows below the table's progress are not dropped",
        ("k2.iceberg.partition_counts:PartitionCounts.count", "offsets >= counts.base", "offsets >= 0"),
    ),
    planted(
        "dead letters not truncated",
        2,
        "a start leaves what was written behind the last commit, and the replay writes it again",
        (f"{_LETTERS}.local_log:_resume_series", "for series in found:", "for series in ():"),
        (
            f"{_LETTERS}.local_log:LocalLog.__init__",
            "position = self._recorded.get(self._series, BEGIN)",
            _BEHIND,
        ),
    ),
    planted(
        "dead letters of a replay written again",
        2,
        "dead letters below the table's progress are not left out",
        (
            "k2.iceberg.partition_counts:PartitionCounts.add_range",
            "since(consumed.dead_letters, counts.base)",
            "since(consumed.dead_letters, 0)",
        ),
    ),
    planted(
        "dead letters not counted by their commit",
        1,
        "a commit records the position that the one before recorded",
        (f"{_LETTERS}.local_log:LocalLog.sync", "!= BEGIN", "== BEGIN"),
    ),
    planted(
        "events' replay filter too wide",
        2,
        "an event of the first trade that the table lacks is dropped",
        ("k2.iceberg.ledger_writer:LedgerWriter.write_batch", "one.offset >=", "one.offset >"),
    ),
    planted(
        "events not rolled back",
        2,
        "the ledger keeps events of trades that a crash kept from the table",
        ("k2.iceberg.ledger_rollback:_uncommitted_events", "if not filters:", "if True:"),
    ),
    planted(
        "owed events never written",
        2,
        "the ledger goes without events that a crash kept from it",
        ("operators.sequence:_SequenceLogic.on_batch", "if owed:", "if False:"),
    ),
    planted(
        "progress in a second commit",
        3,
        "rows are committed first, and the progress after them",
        ("k2.iceberg.metadata_swap:MetadataSwap.commit", "if self._properties:", "if False:"),
        (
            "k2.iceberg.metadata_swap:MetadataSwap.commit",
            "self._table._do_commit(updates, requirements)",
            _SECOND,
        ),
    ),
    planted(
        "progress without its rows",
        3,
        "a commit leaves out its last data file",
        ("k2.iceberg.metadata_swap:MetadataSwap.append", "for file in files:", "for file in [*files][:-1]:"),
    ),
    planted(
        "progress without the buffer",
        3,
        "an epoch's rows that fill no file stay in memory, and its progress is committed",
        ("k2.iceberg.trades_writer:TradesWriter._commit", "self._flush()", "pass"),
    ),
    planted(
        "empty epochs committed",
        3,
        "an epoch that consumed nothing makes a snapshot",
        ("k2.iceberg.trades_writer:TradesWriter._commit", "if not moves:", "if False:"),
    ),
    planted(
        "clean-up unguarded",
        4,
        "a commit reported as rejected has its manifests deleted before it is looked up",
        (
            f"{_COMMIT}._commit_with_rebase",
            "if self._is_committed(pending):",
            "swap.discard()\nif self._is_committed(pending):",
        ),
    ),
    planted(
        "unknown outcome tried again",
        4,
        "a commit whose answer was lost is repeated without looking it up",
        (f"{_COMMIT}._is_committed", "self._refresh()", "self._refresh()\nreturn False"),
    ),
    planted(
        "unknown outcome taken for committed",
        4,
        "a commit whose answer was lost counts as committed",
        (f"{_COMMIT}._try_commit", "if not self._is_committed(pending):", "if False:"),
    ),
    planted(
        "rejection taken for committed",
        4,
        "a commit that met another writer's counts as committed",
        (f"{_COMMIT}._commit_with_rebase", "if self._is_committed(pending):", "if True:"),
    ),
    planted(
        "fence off",
        5,
        "an instance that was frozen while another went on commits what it had",
        ("k2.iceberg.fence:check_fence", "if found.get(topic_partition) != own.get(topic_partition):", "if False:"),
    ),
    planted(
        "store not locked",
        5,
        "a second execution begins on a recovery store in use",
        ("k2.storage.recovery.lock:_lock", "fcntl.LOCK_EX", "fcntl.LOCK_SH"),
    ),
    planted(
        "other writers' commits overwritten",
        5,
        "a commit overwrites concurrent commits",
        ("k2.iceberg.metadata_swap:MetadataSwap.commit", "(*staged._requirements, *self._requirements)", "()"),
    ),
    planted(
        "another writer's progress lost",
        5,
        "a commit writes the progress of its own writer alone",
        (
            "k2.iceberg.commit_parts:_add_progress",
            "PROGRESS.read(swap.metadata.properties).replaced(",
            "PROGRESS.default().replaced(",
        ),
    ),
    planted(
        "foreign rows taken for the job's",
        5,
        "rows that others appended count as seen",
        (
            f"{_HISTORY}._read_sessions",
            "row_filter=row_filter",
            "row_filter=None",
        ),
        (
            f"{_HISTORY}._read_sessions",
            "stored_sessions(engine, positions)",
            'stored_sessions(engine, {**positions, TopicPartition("foreign", 0): 0})',
        ),
    ),
    planted(
        "warm start without sessions",
        6,
        "numbers in the table are not taken as seen",
        (f"{_HISTORY}.sessions", "with self._lock:", "return ()\nwith self._lock:"),
    ),
    planted(
        "warm start without ids",
        6,
        "ids in the table are not taken as seen",
        (f"{_HISTORY}.ids", "return self._ids", "return ()\nreturn self._ids"),
    ),
    planted(
        "warm start without contents",
        6,
        "what was stored before the process started is not looked up",
        (f"{_HISTORY}.contents", "with self._lock:", "wanted = ()\nwith self._lock:"),
    ),
    planted(
        "late end of a session",
        10,
        "a trade of an old session that is later than all that was seen of it counts as the new one's",
        (f"{_SEQUENCE}._home_of_early", "not is_seen and len(numbers)", "False and len(numbers)"),
    ),
    planted(
        "a Kafka timestamp bounds nothing",
        12,
        "a trade dated ahead hides that numbering begins again",
        (
            "k2.sequencing.tracker_kernel:tracked_columns",
            "batch.source.kafka_timestamps",
            "np.full_like(batch.source.kafka_timestamps, NULL_TIME)",
        ),
    ),
    planted(
        "a copy from before the restart is not seen",
        8,
        "a trade of an old session that is sent again is taken for one of the new session",
        (f"{_SEQUENCE}._copied", "searched = 1 if content == NON_MARKET_CONTENT else", "searched = 1 or"),
    ),
    planted(
        "trackers not restored",
        6,
        "open gaps and sessions are not taken from the recovery store",
        ("k2.sequencing.tracker:GroupTracker._restore", 'in state["sequences"].items()', "in ()"),
    ),
    planted(
        "ids below the store's epoch not read",
        6,
        "a resumed start takes from the table the ids alone that the recovery store does not know of",
        ("k2.restore.trade_ids:StoredTradeIds._spans", "in clocks.items()", "in ()"),
        ("k2.restore.trade_ids:StoredTradeIds._spans", "if one not in clocks", "if True"),
    ),
    planted(
        "source snapshot too far",
        6,
        "the source continues one offset too far",
        ("k2.kafka.source:KafkaPartition.snapshot", '"offset": self._position', '"offset": self._position + 1'),
    ),
    planted(
        "jump to the end of a topic",
        6,
        "a partition of which nothing was read begins at its end",
        ("k2.kafka.offset_resolution:_choose", "watermarks.low, Origin.BEGINNING", "watermarks.high, Origin.BEGINNING"),
    ),
    planted(
        "dead letters written after their commit",
        2,
        "a commit counts dead letters that a crash after it can lose",
        (f"{_LETTERS}.queue:DeadLetterQueue.sync", "self._write()", "pass"),
    ),
    planted(
        "unfinished snapshots kept",
        6,
        "what an epoch that was cut off left in the recovery store is taken up two lives later",
        ("k2.storage.recovery.backup:delete_unfinished_epoch", "return sum", "return 0 and sum"),
    ),
    planted(
        "store ahead of the table taken",
        6,
        "a recovery store that knows of more than the table holds is resumed from",
        (
            "k2.iceberg.resume_state:check_recovered",
            "if committed_offset is None or offset > committed_offset:",
            "if False:",
        ),
    ),
    planted(
        "topic cut short taken",
        6,
        "a topic that ends below what was read of it is read on",
        ("k2.kafka.offset_resolution:resolve_start_offset", "if reached > watermarks.high:", "if False:"),
    ),
    planted(
        "poison stops the job",
        7,
        "a message that cannot be read ends the process",
        ("k2.venues.decode:_decode_messages", "result.rejected.append((message_idx, _without_frames(error)))", "raise"),
    ),
    planted(
        "one bad message rejects its batch",
        7,
        "the rest of a batch is dead-lettered with a message that cannot be read",
        (
            "k2.venues.decode:_decoded",
            _DECODED,
            _REJECTED_BATCH,
        ),
    ),
    planted(
        "permanent error retried",
        7,
        "a permanent error is retried",
        ("k2.ops.retry:retried", "(*_TRANSIENT, *also)", "(Exception,)"),
    ),
    planted(
        "transient error not retried",
        7,
        "an error that passes by itself ends the process",
        ("k2.ops.retry:RetryPolicy.retrying", "stop_after_attempt(self.attempts_max)", "stop_after_attempt(1)"),
    ),
    planted(
        "failed commit only logged",
        7,
        "an epoch whose commit failed counts as done",
        (
            "k2.iceberg.trades_writer:TradesWriter.snapshot",
            "self._commit()",
            "try:\n    self._commit()\nexcept Exception:\n    pass",
        ),
    ),
    *CHECKPOINT_MUTANTS,
    *CORRECTION_MUTANTS,
)
