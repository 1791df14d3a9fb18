package k2.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;

/** The fields of one trade, filled again for each message. */
final class Trade {
  static final int PRECISION = 38;
  static final int SCALE = 18;

  private static final JsonFactory JSON = new JsonFactory();

  String exchange;
  String symbol;
  String tradeId;
  long sequence;
  BigDecimal price;
  BigDecimal quantity;
  String side;
  long timestampUs;
  long receivedUs;

  /**
   * Reads a message.
   *
   * @throws IOException it is not JSON
   * @throws IllegalArgumentException it is not a trade; the message says which field is wrong
   */
  void read(byte[] value) throws IOException {
    exchange = symbol = tradeId = side = null;
    price = quantity = null;
    sequence = timestampUs = receivedUs = Long.MIN_VALUE;
    check(value != null, "the message is empty");
    // The parser over bytes reads tokens where they are; data binding would cost twice as much.
    try (JsonParser json = JSON.createParser(value)) {
      check(json.nextToken() == JsonToken.START_OBJECT, "the message is not an object");
      for (String name = json.nextFieldName(); name != null; name = json.nextFieldName()) {
        json.nextToken();
        field(name, json);
      }
      check(json.currentToken() == JsonToken.END_OBJECT, "the message has no end");
    }
    check(exchange != null && symbol != null, "exchange or symbol is missing");
    check(sequence != Long.MIN_VALUE, "sequence is missing");
    check(price != null && quantity != null, "price or quantity is missing");
    check(timestampUs != Long.MIN_VALUE, "timestamp is missing");
    if (tradeId == null) {
      tradeId = Long.toString(sequence);
    }
  }

  private void field(String name, JsonParser json) throws IOException {
    switch (name) {
      case "exchange" -> exchange = text(json, name);
      case "symbol" -> symbol = text(json, name);
      case "trade_id" -> tradeId = text(json, name);
      case "sequence" -> sequence = integer(json, name);
      case "price" -> price = positive(json, name);
      case "quantity" -> quantity = positive(json, name);
      case "side" -> side = json.currentToken() == JsonToken.VALUE_NULL ? null : text(json, name);
      case "timestamp" -> timestampUs = integer(json, name);
      case "received" -> receivedUs = integer(json, name);
      default -> json.skipChildren();
    }
  }

  private static String text(JsonParser json, String name) throws IOException {
    check(json.currentToken() == JsonToken.VALUE_STRING, name, " is not a text");
    return json.getText();
  }

  private static long integer(JsonParser json, String name) throws IOException {
    check(json.currentToken() == JsonToken.VALUE_NUMBER_INT, name, " is not an integer");
    return json.getLongValue();
  }

  private static BigDecimal positive(JsonParser json, String name) throws IOException {
    check(json.currentToken().isScalarValue(), name, " is not a number");
    BigDecimal number;
    try {
      number =
          new BigDecimal(json.getTextCharacters(), json.getTextOffset(), json.getTextLength())
              .setScale(SCALE, RoundingMode.UNNECESSARY);
    } catch (NumberFormatException | ArithmeticException error) {
      throw new IllegalArgumentException(name + " is not a number of 18 decimals");
    }
    check(number.signum() > 0, name, " is not positive");
    check(number.precision() <= PRECISION, name, " is too large");
    return number;
  }

  private static void check(boolean holds, String error) {
    if (!holds) {
      throw new IllegalArgumentException(error);
    }
  }

  private static void check(boolean holds, String name, String error) {
    if (!holds) {
      throw new IllegalArgumentException(name + error);
    }
  }
}
