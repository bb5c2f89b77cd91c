//! A real redis-server for one test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use framepress::internals::redis::Embedded;
use redis::streams::{StreamPendingReply, StreamRangeReply};
use redis::{Connection, FromRedisValue, cmd};
use tempfile::TempDir;

use super::{
    DEAD_LETTERS, DeadLetter, Fields, GROUP, INPUT, LONG, OUTPUT, Output, protobuf, wait_until,
};

/// A server on a free loopback port with a temporary folder. Dropping the value ends both.
pub struct RedisServer {
    /// `None` for a server that another process has started.
    child: Option<Child>,
    port: u16,
    options: Vec<String>,
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl RedisServer {
    /// A server without persistence.
    pub fn start() -> RedisServer {
        RedisServer::with(&[])
    }

    /// A server whose data survive [`RedisServer::restart`], however it ended.
    pub fn durable() -> RedisServer {
        RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with further options.
    pub fn with(options: &[&str]) -> RedisServer {
        RedisServer::started(options, &[])
    }

    /// A server with environment variables.
    pub fn with_environment(environment: &[(&'static str, String)]) -> RedisServer {
        RedisServer::started(&[], environment)
    }

    fn started(options: &[&str], environment: &[(&'static str, String)]) -> RedisServer {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let environment = environment.to_vec();
        // Another process may take the port between `free_port` and the server's start.
        for _ in 0..10 {
            let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
            let port = free_port();
            let child = spawn(port, &options, &environment, &folder);
            let mut server = RedisServer {
                child: Some(child),
                port,
                options: options.clone(),
                environment: environment.clone(),
                folder,
            };
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server does not start; on Debian: apt-get install redis-server");
    }

    /// A server on this port, for which a client already waits.
    pub fn on(port: u16) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
        let child = spawn(port, &[], &[], &folder);
        let (child, options, environment) = (Some(child), Vec::new(), Vec::new());
        let mut server = RedisServer { child, port, options, environment, folder };
        assert!(server.comes_up(), "redis-server starts on port {port}");
        server
    }

    /// A server on this port that another process started and will end.
    pub fn elsewhere(port: u16) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
        RedisServer { child: None, port, options: Vec::new(), environment: Vec::new(), folder }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().unwrap();
        let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.unwrap(), signal).unwrap();
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connect(&self) -> Connection {
        self.try_connect().expect("the server of this test answers")
    }

    pub fn try_connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(LONG)?;
        connection.set_read_timeout(Some(LONG))?;
        Ok(connection)
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again, on the same port and with the same folder.
    pub fn restart(&mut self) {
        self.child = Some(spawn(self.port, &self.options, &self.environment, &self.folder));
        assert!(self.comes_up(), "redis-server starts again on its port");
    }

    /// Starts the server again with further options, without waiting until it can answer.
    pub fn restart_unready(&mut self, options: &[&str]) {
        let mut all = self.options.clone();
        all.extend(options.iter().map(|&option| option.to_owned()));
        self.child = Some(spawn(self.port, &all, &self.environment, &self.folder));
    }

    /// Waits until the server answers.
    #[track_caller]
    pub fn wait_until_up(&mut self) {
        assert!(self.comes_up(), "redis-server answers");
    }

    fn comes_up(&mut self) -> bool {
        let began = framepress::internals::metrics::clock::Tick::now();
        while began.elapsed() < LONG {
            let Some(child) = &mut self.child else { return false };
            if matches!(child.try_wait(), Ok(Some(_))) {
                return false;
            }
            let id = child.id();
            if let Ok(mut connection) = self.try_connect() {
                // While the server loads its data it answers with an error. The answer may also
                // come from another test's server that took the port first.
                let loaded = cmd("PING").query::<String>(&mut connection);
                if loaded.is_ok() && process_id(&mut connection) == Some(id) {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

/// Access to the streams.
impl RedisServer {
    /// Adds one entry to the input stream; returns its id.
    pub fn add(&self, fields: &Fields) -> String {
        add(&mut self.connect(), fields)
    }

    /// Adds entries to the input stream; returns their ids.
    pub fn add_all<'a>(&self, entries: impl IntoIterator<Item = &'a Fields>) -> Vec<String> {
        let mut connection = self.connect();
        entries.into_iter().map(|fields| add(&mut connection, fields)).collect()
    }

    /// Adds `count` small frames `<camera>-0`, `<camera>-1` and so on; returns their entry ids.
    pub fn add_frames(&self, camera: &str, count: usize) -> Vec<String> {
        let mut connection = self.connect();
        (0..count)
            .map(|index| add(&mut connection, &protobuf(&format!("{camera}-{index}"), camera)))
            .collect()
    }

    /// Creates the engine's group before an engine starts.
    pub fn create_group(&self, group: &str) {
        self.create_group_at(group, "0");
    }

    /// Creates a group that begins after `start`.
    pub fn create_group_at(&self, group: &str, start: &str) {
        let mut command = cmd("XGROUP");
        command.arg("CREATE").arg(INPUT).arg(group).arg(start).arg("MKSTREAM");
        let _: () = self.ask(&command);
    }

    /// Makes a consumer that is not an engine read `count` entries and never acknowledge them.
    pub fn read_as(&self, consumer: &str, count: usize) {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(count);
        let _: redis::Value = self.ask(command.arg("STREAMS").arg(INPUT).arg(">"));
    }

    /// Runs one command on a new connection.
    pub fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query(&mut self.connect()).expect("the server of this test does as it is told")
    }

    pub fn configure(&self, key: &str, value: &str) {
        let _: () = self.ask(cmd("CONFIG").arg("SET").arg(key).arg(value));
    }

    /// Creates a folder in place of the file `name` that the server would write.
    pub fn block_file(&self, name: &str) {
        std::fs::create_dir(self.folder.path().join(name)).unwrap();
    }

    pub fn len(&self, stream: &str) -> usize {
        self.ask(cmd("XLEN").arg(stream))
    }

    /// Number of entries in the group's pending entries list.
    pub fn pending(&self) -> usize {
        match self.ask(cmd("XPENDING").arg(INPUT).arg(GROUP)) {
            StreamPendingReply::Data(data) => data.count,
            _ => 0,
        }
    }

    pub fn outputs(&self) -> Vec<Output> {
        self.range(OUTPUT).into_iter().map(|(id, fields)| Output::new(id, fields)).collect()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = self.range(DEAD_LETTERS).into_iter();
        letters.map(|(_, fields)| DeadLetter { fields }).collect()
    }

    /// All entries of a stream.
    pub fn range(&self, stream: &str) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
        let reply: StreamRangeReply = self.ask(cmd("XRANGE").arg(stream).arg("-").arg("+"));
        let bytes = |value: &redis::Value| Vec::<u8>::from_redis_value_ref(value).unwrap();
        let fields = |map: std::collections::HashMap<String, redis::Value>| {
            map.iter().map(|(name, value)| (name.clone(), bytes(value))).collect()
        };
        reply.ids.into_iter().map(|entry| (entry.id, fields(entry.map))).collect()
    }

    /// Waits for `count` results.
    #[track_caller]
    pub fn wait_for_outputs(&self, count: usize) {
        wait_until(&format!("{count} results"), LONG, || self.len(OUTPUT) >= count);
    }

    /// Waits until every entry of the input stream has been read and acknowledged.
    #[track_caller]
    pub fn wait_until_done(&self) {
        let done = || {
            let groups: redis::streams::StreamInfoGroupsReply =
                self.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
            let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
            ours.is_some_and(|group| {
                let last = self.last_id(INPUT);
                let delivered =
                    last.is_none_or(|last| parts(&group.last_delivered_id) >= parts(&last));
                group.pending == 0 && delivered
            })
        };
        wait_until("every entry read and acknowledged", LONG, done);
    }

    fn last_id(&self, stream: &str) -> Option<String> {
        let mut command = cmd("XREVRANGE");
        let command = command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
        let reply: StreamRangeReply = self.ask(command);
        reply.ids.into_iter().next().map(|entry| entry.id)
    }

    /// The engine's promise: every entry of the input stream has exactly one result, and every
    /// result has an entry.
    #[track_caller]
    pub fn assert_every_entry_once(&self) {
        let entries: BTreeSet<String> = self.range(INPUT).into_iter().map(|(id, _)| id).collect();
        let mut results: BTreeMap<String, usize> = BTreeMap::new();
        for output in self.outputs() {
            *results.entry(output.source_id()).or_default() += 1;
        }
        let twice: Vec<_> = results.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "stored more than once: {twice:?}");
        let results: BTreeSet<String> = results.into_keys().collect();
        let lost: Vec<_> = entries.difference(&results).collect();
        assert!(lost.is_empty(), "{} of {} without result: {lost:?}", lost.len(), entries.len());
        let strange: Vec<_> = results.difference(&entries).collect();
        assert!(strange.is_empty(), "results of no entry: {strange:?}");
    }
}

/// Holds however an engine has ended.
impl RedisServer {
    /// No entry has two results, and each delivered entry is pending or has a result.
    #[track_caller]
    pub fn assert_nothing_acknowledged_without_result(&self) {
        // The server executes what an engine has sent even after the engine's end.
        wait_until("the engine's connections are closed", LONG, || {
            !self.ask::<String>(cmd("CLIENT").arg("LIST")).contains("name=framepress")
        });
        let results: Vec<String> = self.outputs().iter().map(Output::source_id).collect();
        let unique: BTreeSet<&String> = results.iter().collect();
        assert_eq!(unique.len(), results.len(), "a result stored twice");
        let mut command = cmd("XPENDING");
        command.arg(INPUT).arg(GROUP).arg("-").arg("+").arg(100_000);
        let rows: Vec<(String, String, u64, u64)> = self.ask(&command);
        let pending: BTreeSet<String> = rows.into_iter().map(|row| row.0).collect();
        let groups: redis::streams::StreamInfoGroupsReply =
            self.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
        let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
        let last = ours.map_or((0, 0), |group| parts(&group.last_delivered_id));
        for (id, _) in self.range(INPUT) {
            let open = parts(&id) > last || pending.contains(&id);
            assert!(open != unique.contains(&id), "{id}: open {open}, with or without result");
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process id of the server at the other end.
fn process_id(connection: &mut Connection) -> Option<u32> {
    let info: redis::InfoDict = cmd("INFO").arg("server").query(connection).ok()?;
    info.get("process_id")
}

/// Adds one entry to the input stream.
fn add(connection: &mut Connection, fields: &Fields) -> String {
    let mut command = cmd("XADD");
    command.arg(INPUT).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(&value[..]);
    }
    command.query(connection).expect("the server of this test takes entries")
}

/// An entry id as a comparable pair.
pub fn parts(id: &str) -> (u64, u64) {
    let (millis, sequence) = id.split_once('-').unwrap();
    (millis.parse().unwrap(), sequence.parse().unwrap())
}

/// A loopback port on which no process listens at present.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Whether the tests run on a Redis before 7.0. It reports no lag, and grants a key only for reading
/// and writing.
pub fn is_older_than_7() -> bool {
    static IS_OLDER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *IS_OLDER.get_or_init(|| {
        let said = Command::new(Embedded::program()).arg("--version").output().unwrap();
        String::from_utf8_lossy(&said.stdout).contains("v=6.")
    })
}

fn spawn(
    port: u16,
    options: &[String],
    environment: &[(&'static str, String)],
    folder: &TempDir,
) -> Child {
    // Redis 6.2 takes no value of several words, has other names, and always allows DEBUG.
    let mut options = options.to_vec();
    if is_older_than_7() {
        options = options.iter().flat_map(|it| it.split(' ')).map(str::to_owned).collect();
        if let Some(at) = options.iter().position(|it| it == "--enable-debug-command") {
            options.drain(at..at + 2);
        }
        for it in options.iter_mut().filter(|it| *it == "--busy-reply-threshold") {
            *it = "--lua-time-limit".into();
        }
    }
    Command::new(Embedded::program())
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(["--daemonize", "no", "--loglevel", "warning", "--dir"])
        .arg(folder.path())
        .args(options)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed by these tests; on Debian: apt-get install redis-server")
}
