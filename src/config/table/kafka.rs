//! Section `kafka`: the brokers that `framepress bridge` connects to. It takes the keys that files of
//! the Kafka version have, as they are; see `migrate.rs` for their older names.

use super::{SECOND, section};
use crate::config::choice::{Begin, KafkaProtocol, ResultFormat, ResultImage, SaslMechanism};
use crate::config::kind::{
    Brokers, ENTRIES_MAX, HostPortText, NAME, PASSWORD, PEM, Properties, SECRET_FILE, TOPIC, Whole,
    Word, guarded, or_null,
};
use crate::config::secret::Secret;
use crate::config::url::HostPort;
use std::collections::BTreeMap;
use std::path::PathBuf;

section! {
    /// Section `kafka`: the system before, for `framepress bridge`; see docs/migration.md.
    KafkaConfig in "kafka." {
        /// The brokers to begin with; an empty list means that there is no Kafka.
        bootstrap_servers: Vec<HostPort> = Vec::new() => Brokers, reload: no, since: SECOND;
        /// The topic of frames.
        input_topic: String = "camera_frames".into() => TOPIC, reload: no, since: SECOND;
        /// The topic of results.
        output_topic: String = "processed_frames".into() => TOPIC, reload: no, since: SECOND;
        /// The consumer group of the old processor.
        consumer_group: String = "stream_processor".into() => NAME, reload: no, since: SECOND;
        /// The consumer group of the bridge, in Kafka and in Redis.
        bridge_group: String = "framepress_bridge".into() => NAME, reload: no, since: SECOND;
        /// Where frames are read from while no position is stored: where `consumer_group` stands, the
        /// oldest message, or what arrives from then on.
        begin: Begin = Begin::Group => Word, reload: no, since: SECOND;
        /// The form of results: the fields of the old processor, or the entry's protobuf.
        format: ResultFormat = ResultFormat::Json => Word, reload: no, since: SECOND;
        /// Whether a result in JSON carries the picture.
        image: ResultImage = ResultImage::None => Word, reload: no, since: SECOND;
        /// Unfinished frames in the Redis stream above which the bridge fetches no more.
        max_stream_length: u64 = 5_000 => Whole(1..=ENTRIES_MAX), unit: "entries", reload: no, since: SECOND;
        /// Encryption and authentication.
        security_protocol: KafkaProtocol = KafkaProtocol::Plaintext => Word, reload: no, since: SECOND;
        /// How the bridge authenticates itself, where the protocol has SASL.
        sasl_mechanism: SaslMechanism = SaslMechanism::Plain => Word, reload: no, since: SECOND;
        /// The user name.
        sasl_username: Option<String> = None => guarded(NAME), reload: no, since: SECOND;
        /// The user's password.
        sasl_password: Option<Secret> = None => guarded(PASSWORD), reload: no, since: SECOND;
        /// Instead of `sasl_password`: a file that holds it.
        sasl_password_file: Option<PathBuf> = None => guarded(SECRET_FILE), reload: no, since: SECOND;
        /// The certificates to trust; null means the system's.
        ssl_cafile: Option<PathBuf> = None => guarded(PEM), reload: no, since: SECOND;
        /// The bridge's certificate.
        ssl_certfile: Option<PathBuf> = None => guarded(PEM), reload: no, since: SECOND;
        /// The private key of that certificate.
        ssl_keyfile: Option<PathBuf> = None => guarded(PEM), reload: no, since: SECOND;
        /// Any other property of librdkafka, by its name there.
        properties: BTreeMap<String, Secret> = BTreeMap::new() => Properties, reload: no, since: SECOND;
    }
    sections {
        /// The HTTP servers of both directions.
        stats: KafkaStatsConfig;
    }
    beside {}
}

section! {
    /// Section `kafka.stats`: the HTTP servers of the bridge.
    KafkaStatsConfig in "kafka.stats." {
        /// The address of `bridge kafka-to-redis`; null means no server, port 0 any free port.
        kafka_to_redis: Option<HostPort> = Some(HostPort::local(8082)) => or_null(HostPortText),
            reload: no, since: SECOND;
        /// The address of `bridge redis-to-kafka`; null means no server, port 0 any free port.
        redis_to_kafka: Option<HostPort> = Some(HostPort::local(8083)) => or_null(HostPortText),
            reload: no, since: SECOND;
    }
    sections {}
    beside {}
}
