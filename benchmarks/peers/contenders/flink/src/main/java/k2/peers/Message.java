package k2.peers;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** A message as it is in Kafka. A POJO, so that Flink has a serializer for it. */
public class Message {
  /** The exchange and the symbol, with {@code |} between them. */
  public String key;

  public byte[] value;

  /** Makes a message of a record. */
  static final class Deserializer implements KafkaRecordDeserializationSchema<Message> {
    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Message> out) {
      Message message = new Message();
      message.key = record.key() == null ? "" : new String(record.key(), StandardCharsets.UTF_8);
      message.value = record.value();
      out.collect(message);
    }

    @Override
    public TypeInformation<Message> getProducedType() {
      return TypeInformation.of(Message.class);
    }
  }
}
