//! One Kafka node, broker and controller at once, with the JVM flags of Kafka's own start script.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use tempfile::TempDir;

use super::child::ChildProcess;
use super::ports::{Ports, ROLES, Role, free_ports};
use crate::Outcome;
use crate::load::guarded;

/// Time limit of the broker's first answer, and of a topic's creation.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time limit of one administrative request, and the number of attempts.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
/// Largest message that broker and clients accept, in bytes: a 1080p PNG in base64 fits.
pub const MESSAGE_BYTES_MAX: &str = "33554432";
/// `kafka-server-start.sh` and `kafka-run-class.sh` of Apache Kafka 4.1.
const FLAGS: [&str; 9] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];
/// For one node: groups do not wait for further members, and deleted files are removed soon.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.segment.delete.delay.ms=1000
";

type Admin = AdminClient<DefaultClientContext>;

/// The folder of the jars; an error if jars or JVM are missing.
pub fn find(folder: &Path) -> Result<PathBuf, String> {
    let jars = folder.join("libs");
    if !folder.join("complete").is_file() || !jars.is_dir() {
        return Err(format!(
            "no Kafka in {}; `sh tests/kafka/fetch.sh` fetches it",
            folder.display()
        ));
    }
    match Command::new("java").arg("-version").stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(jars),
        _ => Err("no java; on Debian: apt-get install default-jre-headless".to_owned()),
    }
}

/// The running node; dropping the value removes its folder.
pub struct KafkaNode {
    pub process: ChildProcess,
    pub ports: Ports,
    admin: Admin,
    // Declared last, so that the folder is removed after the process has ended.
    folder: TempDir,
}

impl KafkaNode {
    /// Starts a node on free loopback ports and waits until it answers.
    pub fn start(jars: &Path) -> Outcome<KafkaNode> {
        let folder = tempfile::Builder::new().prefix("framepress-migration-").tempdir()?;
        let [controller, direct, behind @ ..] = free_ports::<{ 2 + ROLES.len() }>()?;
        let ports = Ports::of(direct, behind)?;
        let properties = folder.path().join("server.properties");
        fs::write(&properties, settings(&ports, controller, behind, folder.path())?)?;
        let format = java("java", jars, folder.path(), "kafka.tools.StorageTool")
            .args(["format", "--standalone", "-t", "migrationAAAAAAAAAAAAAA", "-c"])
            .arg(&properties)
            .output()?;
        if !format.status.success() {
            let said = String::from_utf8_lossy(&format.stderr).into_owned();
            return Err(format!("Kafka's folder cannot be formatted: {said}").into());
        }
        let mut command = guarded("java");
        arguments(&mut command, jars, folder.path(), "kafka.Kafka");
        command.arg(&properties).current_dir(folder.path());
        let mut process = ChildProcess::start("Kafka", command, folder.path())?;
        let admin: Admin = client(direct).create()?;
        let began = Instant::now();
        loop {
            let metadata = admin.inner().fetch_metadata(None, Duration::from_millis(500));
            if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return Ok(KafkaNode { process, ports, admin, folder });
            }
            process.check()?;
            if began.elapsed() > START_LIMIT {
                return Err(format!("Kafka does not answer:\n{}", process.last_words()).into());
            }
        }
    }

    /// Settings of a client in a role.
    pub fn client(&self, role: Role, is_counted: bool) -> ClientConfig {
        client(self.ports.of_role(role, is_counted))
    }

    /// Where clients of a role connect.
    pub fn bootstrap(&self, role: Role, is_counted: bool) -> String {
        format!("127.0.0.1:{}", self.ports.of_role(role, is_counted))
    }

    /// Creates topics and waits until their partitions have a leader.
    pub fn create(&self, topics: [&str; 2], partitions: u64) -> Outcome<()> {
        let count = i32::try_from(partitions)?;
        let wanted = topics.map(|topic| {
            NewTopic::new(topic, count, TopicReplication::Fixed(1))
                .set("max.message.bytes", MESSAGE_BYTES_MAX)
        });
        self.ask(|admin, options| {
            for result in pollster::block_on(admin.create_topics(&wanted, options))? {
                match result {
                    // An earlier attempt, whose answer was lost, may have created it.
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, error)) => return Err(format!("the topic {topic}: {error}").into()),
                }
            }
            Ok(())
        })?;
        let began = Instant::now();
        for topic in topics {
            while self.leaders(topic)? < partitions as usize {
                if began.elapsed() > START_LIMIT {
                    return Err(format!("the topic {topic} has no leader").into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn leaders(&self, topic: &str) -> Outcome<usize> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), START_LIMIT)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.filter(|partition| partition.leader() >= 0).count())
    }

    /// Deletes topics; their data are removed soon after.
    pub fn remove(&self, topics: [&str; 2]) -> Outcome<()> {
        self.ask(|admin, options| {
            for result in pollster::block_on(admin.delete_topics(&topics, options))? {
                match result {
                    Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                    Err((topic, error)) => return Err(format!("the topic {topic}: {error}").into()),
                }
            }
            Ok(())
        })
    }

    /// Makes a request with a new client, and repeats it if there is no answer: a broker that has
    /// just started may leave the first one unanswered.
    fn ask(&self, request: impl Fn(&Admin, &AdminOptions) -> Outcome<()>) -> Outcome<()> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            let admin: Admin = client(self.ports.direct).create()?;
            last = request(&admin, &options);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Bytes of the segments of topics. Preallocated indexes are not counted.
    pub fn stored(&self, topics: [&str; 2]) -> Outcome<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.folder.path().join("data"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let topic = name.rsplit_once('-').map_or("", |(topic, _)| topic);
            if topics.contains(&topic) {
                for file in fs::read_dir(entry.path())? {
                    let path = file?.path();
                    if path.extension().is_some_and(|extension| extension == "log") {
                        bytes += fs::metadata(path)?.len();
                    }
                }
            }
        }
        Ok(bytes)
    }
}

fn client(port: u16) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("log.connection.close", "false");
    config
}

/// The properties. A listener announces the address that its clients must use afterwards: the
/// direct one its own, each other one that of its proxy.
fn settings(ports: &Ports, controller: u16, behind: [u16; 4], folder: &Path) -> Outcome<String> {
    let mut listeners = format!("DIRECT://127.0.0.1:{}", ports.direct);
    let mut advertised = listeners.clone();
    let mut protocols = "CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT".to_owned();
    for (role, port) in ROLES.into_iter().zip(behind) {
        let name = role.name().to_uppercase();
        write!(listeners, ",{name}://127.0.0.1:{port}")?;
        write!(advertised, ",{name}://127.0.0.1:{}", ports.of_role(role, true))?;
        write!(protocols, ",{name}:PLAINTEXT")?;
    }
    Ok(format!(
        "{SETTINGS}listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={advertised}\n\
         listener.security.protocol.map={protocols}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         message.max.bytes={MESSAGE_BYTES_MAX}\n\
         log.dirs={}\n",
        folder.join("data").display()
    ))
}

fn java(program: &str, jars: &Path, folder: &Path, class: &str) -> Command {
    let mut command = Command::new(program);
    arguments(&mut command, jars, folder, class);
    command
}

/// Arguments that run a class of the jars, with the JVM's temporary files in `folder`.
fn arguments(command: &mut Command, jars: &Path, folder: &Path, class: &str) {
    let mut classes = OsString::from(std::path::absolute(jars).unwrap_or_else(|_| jars.to_owned()));
    classes.push("/*");
    let mut temporary = OsString::from("-Djava.io.tmpdir=");
    temporary.push(folder);
    command.args(FLAGS).arg(temporary).arg("-cp").arg(classes).arg(class);
}
