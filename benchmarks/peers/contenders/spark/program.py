"""Append the trades of a topic to an Iceberg table by Spark; runs in an environment of its own."""

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, from_json, timestamp_micros

SCHEMA = (
    "exchange STRING, symbol STRING, trade_id STRING, sequence BIGINT, price DECIMAL(38, 18), "
    "quantity DECIMAL(38, 18), side STRING, timestamp BIGINT, received BIGINT"
)
PROVIDER = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def session(folder: str, jars: str) -> SparkSession:
    """Start Spark in this process, with one thread for tasks."""
    settings = {
        "spark.master": "local[1]",
        "spark.driver.memory": "2g",
        "spark.jars": jars,
        "spark.local.dir": f"{folder}/spark",
        "spark.sql.catalog.k2": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.k2.type": "hadoop",
        "spark.sql.catalog.k2.warehouse": f"file://{folder}/warehouse",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.streaming.stateStore.providerClass": PROVIDER,
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def trades(spark: SparkSession, bootstrap_servers: str, topic: str) -> DataFrame:
    """Return the valid trades of a topic."""
    messages = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    parsed = messages.select(
        from_json(col("value").cast("string"), SCHEMA).alias("trade"), col("topic"), col("partition"), col("offset")
    )
    return (
        parsed.select("trade.*", "topic", "partition", "offset")
        .where("quantity > 0 AND price IS NOT NULL AND sequence IS NOT NULL AND received IS NOT NULL")
        .withColumn("timestamp", timestamp_micros(col("timestamp")))
        .withColumn("received", timestamp_micros(col("received")))
        .where("timestamp IS NOT NULL")
    )


def main(bootstrap_servers: str, topic: str, folder: str, jars: str, *options: str) -> None:
    """Land what the topic holds now."""
    spark = session(folder, jars)
    spark.sql(
        "CREATE TABLE k2.market_data.trades (exchange STRING, symbol STRING, trade_id STRING, sequence BIGINT, "
        "price DECIMAL(38, 18), quantity DECIMAL(38, 18), side STRING, timestamp TIMESTAMP, received TIMESTAMP, "
        "topic STRING, partition INT, offset BIGINT) USING iceberg "
        "TBLPROPERTIES ('format-version' = '2', 'write.distribution-mode' = 'none')"
    )
    rows = trades(spark, bootstrap_servers, topic)
    if "--deduplicate" in options:
        rows = rows.withWatermark("timestamp", "10 minutes").dropDuplicatesWithinWatermark(
            ["exchange", "symbol", "sequence"]
        )
    query = (
        rows.writeStream.format("iceberg")
        .outputMode("append")
        .trigger(availableNow=True)
        .option("checkpointLocation", f"{folder}/checkpoint")
        .toTable("k2.market_data.trades")
    )
    query.awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
