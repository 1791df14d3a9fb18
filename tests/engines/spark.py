"""Spark in a process of its own, on the REST catalog of the tests."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.catalogs.servers import Server
from tests.maven import jars_of

__all__ = ["SPARK_POM", "Spark"]

SPARK_POM: Final = Path(__file__).parent / "spark-pom.xml"
PROGRAM: Final = Path(__file__).parent / "SparkSql.java"
MEMORY: Final = "-Xmx2g"
OPENED: Final = (
    "java.lang",
    "java.lang.invoke",
    "java.net",
    "java.nio",
    "java.util",
    "java.util.concurrent",
    "sun.nio.ch",
)
"""Packages of Java's base module that Spark needs by reflection."""


class Spark:
    """A session of Spark; statements run one after the other."""

    def __init__(self, catalog: Server, folder: Path) -> None:
        """Start it; `folder` gets its log.

        Raises:
            NotToBeHadError: Java, its compiler, or the jars of Spark are not available here.
        """
        jars = jars_of(SPARK_POM, "spark")
        settings = {
            "spark.sql.catalog.k2": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.k2.type": "rest",
            # It would read a table as it was for 30 seconds.
            "spark.sql.catalog.k2.cache-enabled": "false",
            "spark.sql.catalog.k2.uri": f"http://127.0.0.1:{catalog.port}",
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "2",
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(folder),
        }
        opens = [f"--add-opens=java.base/{one}=ALL-UNNAMED" for one in OPENED]
        java = ["java", MEMORY, *opens, "-cp", f"{jars}/*"]
        self.log = folder / "spark.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*java, *(f"-D{name}={value}" for name, value in settings.items()), str(PROGRAM)],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement and return its rows; nulls are left out of them, as Spark does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(statement.split()) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text(encoding="utf-8")[-4_000:]
        rows: list[dict[str, Any]] = json.loads(line)
        return rows

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
