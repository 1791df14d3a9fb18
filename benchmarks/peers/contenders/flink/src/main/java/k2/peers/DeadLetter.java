package k2.peers;

import java.nio.charset.StandardCharsets;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A message that is not a trade, and why. */
public class DeadLetter {
  public String key;
  public byte[] value;
  public String error;

  public DeadLetter() {}

  DeadLetter(String key, byte[] value, String error) {
    this.key = key;
    this.value = value;
    this.error = error;
  }

  /** Makes the record of a dead letter: the message as it was, and the error in a header. */
  static final class Serializer implements KafkaRecordSerializationSchema<DeadLetter> {
    private final String topic;

    Serializer(String topic) {
      this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(
        DeadLetter letter, KafkaSinkContext context, Long timestamp) {
      byte[] key = letter.key.getBytes(StandardCharsets.UTF_8);
      ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, key, letter.value);
      record.headers().add("error", letter.error.getBytes(StandardCharsets.UTF_8));
      return record;
    }
  }
}
