package k2.peers;

import java.io.IOException;
import java.time.Duration;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;

/**
 * Reads the messages of one symbol: trades that are new go on, numbers that are missing are gaps,
 * and what is not a trade is a dead letter.
 *
 * <p>A number below the next expected one is a copy, unless it is in a gap, which it then fills.
 */
final class TrackTrades extends KeyedProcessFunction<String, Message, RowData> {
  static final OutputTag<RowData> GAPS = new OutputTag<>("gaps", Tables.typeOf(Tables.GAPS));
  static final OutputTag<DeadLetter> DEAD_LETTERS =
      new OutputTag<>("dead-letters", Types.POJO(DeadLetter.class));

  private static final Duration TIME_TO_LIVE = Duration.ofDays(1);

  private transient ValueState<Numbers> numbers;
  private transient Trade trade;
  private transient GenericRowData row;

  @Override
  public void open(OpenContext context) {
    ValueStateDescriptor<Numbers> described =
        new ValueStateDescriptor<>("numbers", Types.POJO(Numbers.class));
    described.enableTimeToLive(StateTtlConfig.newBuilder(TIME_TO_LIVE).build());
    numbers = getRuntimeContext().getState(described);
    trade = new Trade();
    row = new GenericRowData(Tables.TRADES.columns().size());
  }

  @Override
  public void processElement(Message message, Context context, Collector<RowData> out)
      throws Exception {
    try {
      trade.read(message.value);
      checkKey(message.key);
    } catch (IOException | IllegalArgumentException error) {
      context.output(
          DEAD_LETTERS, new DeadLetter(message.key, message.value, error.getMessage()));
      return;
    }
    if (isNew(context)) {
      out.collect(row());
    }
  }

  /** The state is that of the key, so a trade of another symbol must not touch it. */
  private void checkKey(String key) {
    int middle = trade.exchange.length();
    if (key.length() != middle + 1 + trade.symbol.length()
        || !key.startsWith(trade.exchange)
        || key.charAt(middle) != '|'
        || !key.endsWith(trade.symbol)) {
      throw new IllegalArgumentException("the key is not that of the trade");
    }
  }

  private boolean isNew(Context context) throws Exception {
    long sequence = trade.sequence;
    Numbers seen = numbers.value();
    if (seen == null) {
      seen = new Numbers();
    } else if (sequence > seen.next) {
      context.output(GAPS, gap("gap_opened", seen.next, sequence - 1));
      seen.open(sequence);
    } else if (sequence < seen.next) {
      if (!seen.fill(sequence)) {
        return false;
      }
      context.output(GAPS, gap("gap_filled", sequence, sequence));
    }
    seen.next = Math.max(seen.next, sequence + 1);
    numbers.update(seen);
    return true;
  }

  /** Objects are reused, and the writer of Parquet has taken the row before the next one comes. */
  private RowData row() {
    row.setField(0, StringData.fromString(trade.exchange));
    row.setField(1, StringData.fromString(trade.symbol));
    row.setField(2, StringData.fromString(trade.tradeId));
    row.setField(3, trade.sequence);
    row.setField(4, DecimalData.fromBigDecimal(trade.price, Trade.PRECISION, Trade.SCALE));
    row.setField(5, DecimalData.fromBigDecimal(trade.quantity, Trade.PRECISION, Trade.SCALE));
    row.setField(6, trade.side == null ? null : StringData.fromString(trade.side));
    row.setField(7, time(trade.timestampUs));
    row.setField(8, trade.receivedUs == Long.MIN_VALUE ? null : time(trade.receivedUs));
    return row;
  }

  private RowData gap(String event, long first, long last) {
    return GenericRowData.of(
        StringData.fromString(trade.exchange),
        StringData.fromString(trade.symbol),
        StringData.fromString(event),
        first,
        last,
        time(trade.timestampUs));
  }

  private static TimestampData time(long timeUs) {
    return TimestampData.fromEpochMillis(
        Math.floorDiv(timeUs, 1_000L), (int) Math.floorMod(timeUs, 1_000L) * 1_000);
  }
}
