"""What a start of the job does and leaves out."""

import os
import subprocess
import sys
from pathlib import Path

from flows import bootstrap
from tests.brokers import Broker

BOOTSTRAP = """
import gc
gc.disable()
from flows.bootstrap import bootstrap
bootstrap()
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""

IMPORTED = """
import sys
import k2.ops.signals
k2.ops.signals.is_job = lambda: True
import flows.trades
print(*sys.modules)
"""


def run(code: str, **environment: str) -> str:
    """Run Python code in a process of its own, as from a checkout; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(bootstrap.__file__).parent.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_garbage_is_collected_once_the_job_has_started(broker: Broker, tmp_path: Path) -> None:
    """Of what is made from then on: what a start has made is kept, and never looked through."""
    settings = {
        "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "K2_TOPICS": broker.topic(),
        "K2_DATA_DIR": str(tmp_path),
        "K2_METRICS_PORT": "0",
    }
    assert run(BOOTSTRAP, **settings).split() == ["True", "True"]


def test_modules_that_the_job_does_not_use_are_not_imported() -> None:
    """They took a fifth of the time, and 30 MB: DuckDB is imported once a query is made, and rich never."""
    imported = run(IMPORTED).split()
    assert "k2.restore.tables" in imported
    assert not {"_duckdb", "attr", "duckdb", "k2.query.engine", "pandas", "rich"} & set(imported)
