import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** One node of Apache Kafka, broker and controller: formatted at its first start, as its scripts do it. */
public final class KafkaNode {
    public static void main(String[] args) throws Exception {
        String properties = args[0];
        Properties all = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(properties))) {
            all.load(reader);
        }
        if (!Files.exists(Path.of(all.getProperty("log.dirs"), "meta.properties"))) {
            List<String> format = new ArrayList<>(
                List.of("format", "--config", properties, "--cluster-id", "fimfimfimfimfimfimfimQ"));
            for (int index = 1; index < args.length; index++) {
                format.add("--add-scram");
                format.add(args[index]);
            }
            int status = kafka.tools.StorageTool.execute(format.toArray(String[]::new), System.err);
            if (status != 0) {
                System.exit(status);
            }
        }
        kafka.Kafka.main(new String[] {properties});
    }
}
