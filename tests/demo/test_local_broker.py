"""`python -m demo.local_broker`: a broker to try the job on, as the README shows it."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import demo.local_broker as command
from demo.broker import answers
from k2.ops.child_process import free_port
from k2.ops.settings import Settings
from tests.flows.job import ROOT, Job, wait_until

RUN_SECONDS_MAX = 600
"""Each command of the README imports everything again: on a busy machine that takes minutes."""
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command.run_broker)
    return CliRunner().invoke(app, arguments)


def test_a_port_in_use_is_one_sentence() -> None:
    """Exit code 2, and the option to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _run("--port", str(port))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"demo.local_broker: --port {port}: Address already in use; use another port\n"


def test_a_missing_broker_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and the command that installs it."""
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    done = _run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "run `pip install 'k2-trades[demo]'`" in done.stderr


def _commands() -> list[list[str]]:
    """Return the lines of the README's two terminals, without those that prepare a shell."""
    readme = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    section = readme.split("### A broker of your own\n")[1].split("\n## ")[0]
    return [[line for line in block.splitlines() if "bin/activate" not in line] for block in CONSOLE.findall(section)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_store_a_capture(tmp_path: Path) -> None:
    """The broker starts, `k2 produce` creates the topic, `k2 run` stores its trades, and a signal ends the broker."""
    (broker_line,), (servers, export, produce, run) = _commands()
    assert servers == f"export K2_BOOTSTRAP_SERVERS={Settings().bootstrap_servers}"
    port = free_port()
    topics = export.removeprefix("export K2_TOPICS=")
    job = Job(f"127.0.0.1:{port}", tmp_path, topics)
    own = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    environment = {**own, **job.variables, "PATH": path}
    broker = subprocess.Popen([*broker_line.split(), "--port", str(port)], cwd=ROOT, env=environment)
    try:
        wait_until(lambda: answers(job.bootstrap_servers), "the broker does not answer")
        for line in (produce, run):
            subprocess.run(line.split(), cwd=ROOT, env=environment, check=True, timeout=RUN_SECONDS_MAX)
        assert job.committed() == job.table().num_rows == 9_757
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(30) == 0
        assert not answers(job.bootstrap_servers)
    finally:
        broker.kill()
