//! One Kafka node, broker and controller at once.

use std::fmt::Write as _;
use std::fs::File;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use parking_lot::{Condvar, Mutex};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;
use tempfile::TempDir;

use super::LONG;
use super::java::{available, java};
use super::process::Process;
use crate::common::{free_port, wait_until};

/// Default settings of every broker; [`Broker::with`] overrides them.
const SETTINGS: [(&str, &str); 19] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    (
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
    ),
    // A killed broker can register again only after its old session ends.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "200"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("auto.create.topics.enable", "false"),
    ("message.max.bytes", MESSAGE_BYTES_MAX),
];

/// Largest message that broker, producer and consumer accept by default, in bytes.
pub const MESSAGE_BYTES_MAX: &str = "33554432";

/// A client without login has all rights, and so has `admin`. `bridge` has those that a test
/// grants.
const SECURITY: [(&str, &str); 4] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:admin;User:ANONYMOUS"),
    ("sasl.enabled.mechanisms", "PLAIN"),
    (
        "listener.name.sasl_plaintext.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_admin=\"admin-secret\" user_bridge=\"bridge-secret\";",
    ),
];

/// How many brokers run at once besides the shared one. A test that holds this many and starts
/// another fails after ten minutes.
const BROKERS_MAX: usize = 2;

/// A broker on free loopback ports with a temporary folder. Dropping the value ends both.
pub struct Broker {
    server: Option<Process>,
    /// The port of the tests themselves: no login, all rights.
    port: u16,
    /// Protocol and port of the clients that must log in, if any.
    login: Option<(&'static str, u16)>,
    /// The cluster id, unique to this broker.
    id: String,
    folder: TempDir,
    /// `None` for the shared broker.
    _permit: Option<Permit>,
}

/// The broker of every test that does not break its broker; `None` without Kafka. It runs until the
/// tests end. Each test uses its own topics ([`Broker::new_topic`]), groups and transactional ids.
pub fn shared() -> Option<&'static Broker> {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    available().then(|| SHARED.get_or_init(|| Broker::started(&[], None, None)))
}

impl Broker {
    /// A broker for one test. Check [`available`] first.
    pub fn start() -> Broker {
        Broker::with(&[])
    }

    /// A broker with further server properties.
    pub fn with(settings: &[(&str, &str)]) -> Broker {
        Broker::started(settings, None, Some(Permit::take()))
    }

    /// A broker whose clients log in by SASL/PLAIN and have the rights granted by
    /// [`Broker::allow`].
    pub fn secured() -> Broker {
        Broker::started(&SECURITY, Some("SASL_PLAINTEXT"), Some(Permit::take()))
    }

    /// A broker whose clients log in by SCRAM-SHA-256 over TLS, with all rights. Certificate and
    /// key are PEM.
    pub fn encrypted(certificate: &str, key: &str) -> Broker {
        let lines = |pem: &str| pem.trim().replace("\r", "").replace('\n', "\\n");
        let (certificate, key) = (lines(certificate), lines(key));
        let settings = [
            ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
            ("listener.name.sasl_ssl.ssl.keystore.type", "PEM"),
            ("listener.name.sasl_ssl.ssl.keystore.certificate.chain", &certificate),
            ("listener.name.sasl_ssl.ssl.keystore.key", &key),
            (
                "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
        ];
        Broker::started(&settings, Some("SASL_SSL"), Some(Permit::take()))
    }

    fn started(
        settings: &[(&str, &str)],
        login: Option<&'static str>,
        mut permit: Option<Permit>,
    ) -> Broker {
        assert!(available(), "a test that needs Kafka asks `available` first");
        let mut said = String::new();
        // Another process may take a port between `free_port` and the broker's start.
        for _ in 0..3 {
            let folder = tempfile::Builder::new().prefix("framepress-kafka-").tempdir().unwrap();
            let (port, id) = (free_port(), cluster_id());
            let login = login.map(|protocol| (protocol, free_port()));
            let mut broker =
                Broker { server: None, port, login, id, folder, _permit: permit.take() };
            broker.format(settings);
            broker.run();
            if broker.comes_up() {
                return broker;
            }
            said = broker.log_tail();
            permit = broker._permit.take();
        }
        panic!("Kafka does not start; the end of its log:\n{said}");
    }

    /// Writes the properties and an empty log of cluster metadata.
    fn format(&self, settings: &[(&str, &str)]) {
        let (port, controller) = (self.port, free_port());
        let login = self.login.map(|(protocol, port)| format!(",{protocol}://127.0.0.1:{port}"));
        let login = login.unwrap_or_default();
        let data = self.folder.path().join("data");
        let mut text = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{login}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{login}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             log.dirs={}\n",
            data.display()
        );
        // Java uses the last of two properties with the same name.
        for (name, value) in SETTINGS.iter().chain(settings) {
            writeln!(text, "{name}={value}").unwrap();
        }
        let properties = self.folder.path().join("server.properties");
        std::fs::write(&properties, text).unwrap();
        let output = java("kafka.tools.StorageTool", self.folder.path())
            .args(["format", "--standalone", "-t", &self.id, "-c"])
            .arg(&properties)
            .args(self.login.filter(|(protocol, _)| *protocol == "SASL_SSL").map(|_| {
                let password = Broker::password("bridge");
                format!("--add-scram=SCRAM-SHA-256=[name=bridge,password={password}]")
            }))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "the broker's folder cannot be formatted:\n{said}");
    }

    fn run(&mut self) {
        let folder = self.folder.path();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = java("kafka.Kafka", folder);
        command.arg(folder.join("server.properties")).current_dir(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(Process::start(&mut command, folder));
    }

    fn comes_up(&mut self) -> bool {
        let began = Tick::now();
        let consumer: BaseConsumer = self.client().create().unwrap();
        while began.elapsed() < LONG {
            if !self.server.as_mut().is_some_and(Process::is_running) {
                return false;
            }
            let metadata = consumer.fetch_metadata(None, Duration::from_millis(500));
            // Before its registration with the controller, a broker lists no brokers. Another
            // test's broker may have taken the port.
            if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return consumer.client().fetch_cluster_id(LONG).as_ref() == Some(&self.id);
            }
        }
        false
    }

    /// Kills the broker, as a power cut would.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Ends the broker cleanly.
    #[track_caller]
    pub fn stop(&mut self) {
        self.server.take().expect("a broker that runs").terminate();
    }

    /// Starts the broker again, on the same ports and with the same folder.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.kill();
        self.run();
        assert!(self.comes_up(), "Kafka starts again; the end of its log:\n{}", self.log_tail());
    }

    /// Silences the broker: connections stay open, and nothing is answered.
    pub fn freeze(&mut self) {
        self.server.as_ref().expect("a broker that runs").signal(Signal::STOP);
    }

    /// Resumes the silenced broker.
    pub fn thaw(&mut self) {
        self.server.as_ref().expect("a broker that runs").signal(Signal::CONT);
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Access for tests.
impl Broker {
    /// Address for clients as `host:port`; with a secured broker, the one that requires a login.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.login.map_or(self.port, |(_, port)| port))
    }

    /// Settings of a client that has all rights.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.port))
            .set("broker.address.family", "v4")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200");
        config
    }

    /// Settings of a client that logs in to a secured broker as `admin` or `bridge`.
    pub fn client_as(&self, user: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", user)
            .set("sasl.password", Broker::password(user));
        config
    }

    /// The password of `admin` or `bridge` at a secured broker.
    pub fn password(user: &str) -> String {
        format!("{user}-secret")
    }

    /// Grants rights to a user, in the syntax of `kafka-acls.sh`: `--operation Read --topic
    /// frames`.
    #[track_caller]
    pub fn allow(&self, user: &str, rights: &[&str]) {
        let output = java("org.apache.kafka.tools.AclCommand", self.folder.path())
            .args(["--bootstrap-server", &format!("127.0.0.1:{}", self.port), "--add"])
            .args(["--allow-principal", &format!("User:{user}")])
            .args(rights)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{rights:?}:\n{said}");
    }

    /// Creates a topic with settings such as `max.message.bytes`, and waits until clients see it.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: usize, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let count = i32::try_from(partitions).unwrap();
        let topic = NewTopic::new(name, count, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(LONG));
        for result in pollster::block_on(admin.create_topics([&topic], &options)).unwrap() {
            result.unwrap();
        }
        wait_until(&format!("the topic {name}"), LONG, || {
            let metadata = admin.inner().fetch_metadata(Some(name), LONG).unwrap();
            let partitions_seen = metadata.topics().iter().flat_map(|topic| topic.partitions());
            partitions_seen.filter(|partition| partition.leader() >= 0).count() == partitions
        });
    }

    /// Creates a topic with a unique name; returns the name.
    #[track_caller]
    pub fn new_topic(&self, prefix: &str, partitions: usize) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.create_topic(&name, partitions, &[]);
        name
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the end of Kafka's log:\n{}", self.log_tail());
        }
    }
}

/// 16 bytes in URL-safe base64, different for every broker of this machine.
fn cluster_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:010}{count:010}AA", std::process::id())
}

/// The permit of a test to run a broker.
struct Permit;

static TAKEN: Mutex<usize> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

impl Permit {
    fn take() -> Permit {
        let mut taken = TAKEN.lock();
        while *taken >= BROKERS_MAX {
            let waited = RETURNED.wait_for(&mut taken, 10 * LONG);
            assert!(!waited.timed_out(), "other tests keep their {BROKERS_MAX} brokers");
        }
        *taken += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *TAKEN.lock() -= 1;
        RETURNED.notify_one();
    }
}
