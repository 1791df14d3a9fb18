package k2.peers;

import java.math.BigDecimal;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * Gives the fields of a trade the types of the table's columns, and rejects what is not a trade.
 *
 * <p>Without it Iceberg's sink would take the microseconds for milliseconds, and an error in the sink
 * stops the task, whereas one in a transformation makes a dead letter. Connect's own {@code
 * TimestampConverter} knows no more than milliseconds.
 */
public final class TypedTrade implements Transformation<SinkRecord> {
  @Override
  public SinkRecord apply(SinkRecord record) {
    if (!(record.value() instanceof Map<?, ?> value)) {
      throw new DataException("the message is not an object");
    }
    // The converter has made this map for this record, so it can be changed in place.
    @SuppressWarnings("unchecked")
    Map<String, Object> trade = (Map<String, Object>) value;
    for (String name : new String[] {"exchange", "symbol", "trade_id"}) {
      if (!(trade.get(name) instanceof String)) {
        throw new DataException(name + " is not a text");
      }
    }
    if (!(trade.get("sequence") instanceof Long)) {
      throw new DataException("sequence is not an integer");
    }
    trade.put("price", positive(trade, "price"));
    trade.put("quantity", positive(trade, "quantity"));
    trade.put("timestamp", time(trade, "timestamp"));
    if (trade.get("received") != null) {
      trade.put("received", time(trade, "received"));
    }
    return record;
  }

  private static BigDecimal positive(Map<String, Object> trade, String name) {
    try {
      BigDecimal number = new BigDecimal(String.valueOf(trade.get(name)));
      if (number.signum() > 0) {
        return number;
      }
    } catch (NumberFormatException error) {
      // Said below.
    }
    throw new DataException(name + " is not a positive number");
  }

  private static Object time(Map<String, Object> trade, String name) {
    if (!(trade.get(name) instanceof Long timeUs)) {
      throw new DataException(name + " is not an integer");
    }
    return Instant.ofEpochSecond(
            Math.floorDiv(timeUs, 1_000_000L), Math.floorMod(timeUs, 1_000_000L) * 1_000)
        .atOffset(ZoneOffset.UTC);
  }

  @Override
  public ConfigDef config() {
    return new ConfigDef();
  }

  @Override
  public void configure(Map<String, ?> configs) {}

  @Override
  public void close() {}
}
