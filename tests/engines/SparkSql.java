import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.spark.sql.SparkSession;

/** Runs each line of the input as a statement of Spark SQL, and prints its rows as a JSON array on one line. */
class SparkSql {
    public static void main(String[] arguments) throws Exception {
        SparkSession spark = SparkSession.builder().master("local[1]").getOrCreate();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String statement = input.readLine(); statement != null; statement = input.readLine()) {
            System.out.println("[" + String.join(",", spark.sql(statement).toJSON().collectAsList()) + "]");
        }
        spark.stop();
    }
}
