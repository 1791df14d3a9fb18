package k2.peers;

import static org.apache.iceberg.types.Types.NestedField.optional;
import static org.apache.iceberg.types.Types.NestedField.required;

import java.util.Map;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.Schema;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.flink.CatalogLoader;
import org.apache.iceberg.flink.FlinkSchemaUtil;
import org.apache.iceberg.flink.TableLoader;
import org.apache.iceberg.types.Types;

/** The tables: their columns, and how they are made. */
final class Tables {
  static final Schema TRADES =
      new Schema(
          required(1, "exchange", Types.StringType.get()),
          required(2, "symbol", Types.StringType.get()),
          required(3, "trade_id", Types.StringType.get()),
          required(4, "sequence", Types.LongType.get()),
          required(5, "price", Types.DecimalType.of(38, 18)),
          required(6, "quantity", Types.DecimalType.of(38, 18)),
          optional(7, "side", Types.StringType.get()),
          required(8, "timestamp", Types.TimestampType.withZone()),
          optional(9, "received", Types.TimestampType.withZone()));

  static final Schema GAPS =
      new Schema(
          required(1, "exchange", Types.StringType.get()),
          required(2, "symbol", Types.StringType.get()),
          required(3, "event", Types.StringType.get()),
          required(4, "first_sequence", Types.LongType.get()),
          required(5, "last_sequence", Types.LongType.get()),
          required(6, "timestamp", Types.TimestampType.withZone()));

  private static final Namespace NAMESPACE = Namespace.of("market_data");

  private Tables() {}

  static CatalogLoader catalog(String warehouse) {
    return CatalogLoader.hadoop("peers", new Configuration(), Map.of("warehouse", warehouse));
  }

  /** Returns the type of a table's rows, with the serializer that Flink's SQL uses for them. */
  static InternalTypeInfo<RowData> typeOf(Schema schema) {
    return InternalTypeInfo.of(FlinkSchemaUtil.convert(schema));
  }

  /** Makes a table, unless it is there. */
  static TableLoader create(CatalogLoader loader, String name, Schema schema) {
    TableIdentifier identifier = TableIdentifier.of(NAMESPACE, name);
    Catalog catalog = loader.loadCatalog();
    if (!catalog.tableExists(identifier)) {
      catalog.createTable(identifier, schema);
    }
    return TableLoader.fromCatalog(loader, identifier);
  }
}
