package k2.peers;

import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.ParameterTool;
import org.apache.iceberg.Schema;
import org.apache.iceberg.flink.CatalogLoader;
import org.apache.iceberg.flink.TableLoader;
import org.apache.iceberg.flink.sink.IcebergSink;

/**
 * Lands the trades of a topic in an Iceberg table up to the end of the topic, then ends.
 *
 * <p>Arguments: {@code --bootstrap-servers}, {@code --topic}, {@code --dead-letters} (a topic),
 * {@code --warehouse} (a folder), and any option of Flink's configuration, such as {@code
 * --state.backend.type rocksdb}, or {@code --execution.state-recovery.path} after a crash.
 */
public final class TradesJob {
  /** Few columns repeat values; the others give up their dictionary at 64 KiB instead of 2 MiB. */
  private static final Map<String, String> WRITING =
      Map.of(
          "write-format", "parquet",
          "compression-codec", "zstd",
          "write.parquet.dict-size-bytes", "65536");

  private TradesJob() {}

  public static void main(String[] arguments) throws Exception {
    ParameterTool chosen = ParameterTool.fromArgs(arguments);
    Configuration configuration = chosen.getConfiguration();
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.getExecutionEnvironment(configuration);
    CatalogLoader catalog = Tables.catalog(chosen.getRequired("warehouse"));
    String servers = chosen.getRequired("bootstrap-servers");

    DataStream<Message> messages =
        environment
            .fromSource(
                source(servers, chosen.getRequired("topic")),
                WatermarkStrategy.noWatermarks(),
                "messages")
            .uid("messages");
    SingleOutputStreamOperator<RowData> trades =
        messages
            .keyBy(message -> message.key)
            .process(new TrackTrades())
            .returns(Tables.typeOf(Tables.TRADES))
            .uid("track");
    land(trades, catalog, "trades", Tables.TRADES);
    land(trades.getSideOutput(TrackTrades.GAPS), catalog, "gaps", Tables.GAPS);
    trades
        .getSideOutput(TrackTrades.DEAD_LETTERS)
        .sinkTo(deadLetters(servers, chosen.getRequired("dead-letters")))
        .uid("dead letters");
    environment.execute("trades");
  }

  private static KafkaSource<Message> source(String servers, String topic) {
    return KafkaSource.<Message>builder()
        .setBootstrapServers(servers)
        .setTopics(topic)
        .setGroupId(topic)
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setBounded(OffsetsInitializer.latest())
        .setDeserializer(new Message.Deserializer())
        .setProperty("isolation.level", "read_committed")
        // Each poll is handed over from the fetcher's thread to that of the task.
        .setProperty("max.poll.records", "10000")
        .build();
  }

  private static KafkaSink<DeadLetter> deadLetters(String servers, String topic) {
    // A dead letter may come twice after a crash: exactly once costs a transaction each checkpoint.
    return KafkaSink.<DeadLetter>builder()
        .setBootstrapServers(servers)
        .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .setRecordSerializer(new DeadLetter.Serializer(topic))
        .build();
  }

  private static void land(
      DataStream<RowData> rows, CatalogLoader catalog, String name, Schema schema) {
    TableLoader table = Tables.create(catalog, name, schema);
    IcebergSink.forRowData(rows)
        .tableLoader(table)
        .uidSuffix(name)
        .setAll(WRITING)
        .append();
  }
}
