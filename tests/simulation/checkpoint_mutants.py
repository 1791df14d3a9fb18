"""Deliberate bugs in the checkpoints of the rules' state (law 18), which the simulator must find."""

from typing import Final

from tests.simulation.mutate import planted

__all__ = ["CHECKPOINT_MUTANTS"]

_STATE_SOURCE: Final = "k2.restore.tables:TableStateSource"

CHECKPOINT_MUTANTS: Final = (
    planted(
        "checkpoint claims rows that it lacks",
        18,
        "the positions of a checkpoint are beyond the rows that its state has seen",
        ("k2.iceberg.checkpoint_writer:CommittedPoint.now", "entry.offset)", "entry.offset + 9)"),
    ),
    planted(
        "rows after a checkpoint not read",
        18,
        "a start takes the state of a checkpoint without the rows committed since",
        (
            f"{_STATE_SOURCE}.__init__",
            "self._resumed_offsets.update(self._checkpoints.positions)",
            "self._resumed_offsets.update(dict.fromkeys(self._progress.partitions(), 2**60))",
        ),
    ),
    planted(
        "newest checkpoint's positions taken",
        18,
        "rows are read from the position of the newest checkpoint on, not of the oldest",
        ("k2.restore.checkpoints:_lowest", "min(offsets[one], known[one])", "max(offsets[one], known[one])"),
    ),
    planted(
        "manifests after a checkpoint skipped",
        18,
        "files that were committed after a checkpoint are taken for older ones",
        ("k2.restore.checkpoints:find_checkpoints", "min(one.sequence_number for", "2 + min(one.sequence_number for"),
    ),
    planted(
        "a group with rows counts as idle",
        18,
        "the state of a checkpoint counts as complete although its group had rows since",
        ("k2.iceberg.checkpoint_writer:CheckpointWriter.note_rows", "self._with_rows_since.add(group)", "pass"),
    ),
    planted(
        "checkpoint of a lost ledger taken",
        18,
        "a ledger that was dropped is rebuilt from the rows after a checkpoint alone",
        ("k2.restore.checkpoints:_read_newest", "if checkpoint.ledger == ledger", "if True"),
    ),
    planted(
        "checkpoints removed while named",
        18,
        "the files of checkpoints are removed although the table names them",
        (
            "k2.iceberg.checkpoint_writer:CheckpointWriter.remove_unnamed",
            "self._files - named:",
            "self._files:",
        ),
    ),
    planted(
        "only the newest ids of a checkpoint read",
        18,
        "a start takes the newest block of ids of a checkpoint, without those before it",
        ("k2.restore.trade_ids:StoredTradeIds.blocks", "for block in ids.blocks]", "for block in ids.blocks[-1:]]"),
    ),
    planted(
        "ids after a checkpoint not read",
        18,
        "a start takes the ids of a checkpoint without those committed since",
        (
            "k2.restore.trade_ids:StoredTradeIds._read",
            "rows_from(one, offsets.get(one, 0)) for one in spans",
            "rows_from(one, 2**60) for one in spans",
        ),
    ),
    planted(
        "ids of merged blocks left out",
        18,
        "a block that takes in older ones has the newest ids only",
        ("k2.dedup.id_blocks:SealedBlocks.seal", "firsts.get(one, first)", "first"),
    ),
    planted(
        "ids of the epoch in no block",
        18,
        "ids held since the last checkpoint count as sealed, and are in no block",
        ("k2.dedup.id_blocks:SealedBlocks.seal", "if not count:", "if count < 9:"),
    ),
    planted(
        "blocks of ids removed while named",
        18,
        "a file of checkpoints is removed although checkpoints refer to blocks in it",
        ("k2.storage.checkpoints:place_of", "digest(data), id_files)", "digest(data), ())"),
    ),
)
