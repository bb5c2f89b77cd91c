//! The minimal rights: what each part of the program runs on a server, in one table. The
//! documentation, `check` and the tests are derived from it.
//!
//! Whether an account has a right is tested by trying the command with arguments that cannot change
//! anything: a server checks rights before arguments. ACL DRYRUN or ACL GETUSER would themselves
//! need rights that no engine should have. The attempt also shows whether the server has the
//! command at all, because `rename-command` removes commands.

mod table;

use redis::{Cmd, Value, cmd};

use crate::base::Fault;
use crate::redis::control::{Control, PlaceKeys};
use crate::redis::topology::status_key;
use crate::redis::topology::{Streams, dead_letters_of};
use table::{BRIDGE, COMMON, DEAD_LETTERS, ENGINE, INSPECT, PRODUCER};

/// The part of the program that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// `framepress run`.
    Engine,
    /// `framepress ingest`, or any other producer.
    Producer,
    /// `framepress inspect`, or any other consumer without a group.
    Inspect,
    /// `framepress dlq`.
    DeadLetters,
    /// `framepress bridge`, both directions.
    Bridge,
}

/// The configuration that makes a right necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always necessary.
    Always,
    /// A database other than 0.
    Database,
    /// `retention: delete`.
    Delete,
    /// `retention: trim_acked`.
    TrimAcked,
    /// `wait_replicas` above 0.
    WaitReplicas,
    /// Streams read under leases.
    Exclusive,
    /// A frame ring whose slots are reused only after their frames have ended.
    LosslessRing,
    /// Cameras in the configuration, whose state is displayed elsewhere. Without it only these
    /// displays show less.
    Cameras,
    /// Sentinels that name the primary.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// One command that an account must be allowed to run.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// As in ACL SETUSER, without its sign: `xgroup|create`.
    pub rule: &'static str,
    /// When it is needed.
    pub when: When,
    /// What does not work without it.
    pub purpose: &'static str,
    /// A form of the command that changes nothing; words in braces are placeholders for names.
    attempt: &'static str,
}

/// A script that does nothing, and the digest of a script that does not exist.
const SCRIPT: &str = "return 0";
const DIGEST: &str = "0000000000000000000000000000000000000000";

/// Number of shards whose keys are tried; the names differ only in a number.
const SHARDS_TRIED: usize = 64;

impl Account {
    /// Every account.
    pub const ALL: [Account; 5] = [
        Account::Engine,
        Account::Producer,
        Account::Inspect,
        Account::DeadLetters,
        Account::Bridge,
    ];

    /// Every right it may need, in the order of trying.
    pub fn rights(self) -> impl Iterator<Item = &'static Right> {
        let own = match self {
            Account::Engine => ENGINE,
            Account::Producer => PRODUCER,
            Account::Inspect => INSPECT,
            Account::DeadLetters => DEAD_LETTERS,
            Account::Bridge => BRIDGE,
        };
        own.iter().chain(COMMON)
    }

    /// The subcommand that uses this account.
    pub const fn subcommand(self) -> &'static str {
        match self {
            Account::Engine => "run",
            Account::Producer => "ingest",
            Account::Inspect => "inspect",
            Account::DeadLetters => "dlq",
            Account::Bridge => "bridge",
        }
    }

    /// The streams of a shard that it uses, and their ACL sign (read, write or both).
    const fn streams(self) -> (&'static [UsedStream], &'static str) {
        match self {
            Account::Engine | Account::Bridge => {
                (&[UsedStream::Input, UsedStream::Output, UsedStream::DeadLetters], "~")
            }
            Account::Producer => (&[UsedStream::Input], "%W~"),
            Account::Inspect => (&[UsedStream::Output], "%R~"),
            Account::DeadLetters => (&[UsedStream::Input, UsedStream::DeadLetters], "~"),
        }
    }

    /// Commands to try on each key, the one with the most rights first.
    const fn key_attempts(self) -> &'static [&'static str] {
        match self {
            Account::Engine | Account::DeadLetters => {
                &["EVALSHA {digest} 1 {key}", "EVAL {script} 1 {key}", "XADD {key} x x x"]
            }
            Account::Bridge => &["EVAL {script} 1 {key}", "XADD {key} x x x"],
            Account::Producer => &["XADD {key} x x x"],
            Account::Inspect => &["XREVRANGE {key} - + COUNT 1", "XREAD STREAMS {key} x"],
        }
    }
}

/// A stream of a shard.
#[derive(Clone, Copy, Debug)]
enum UsedStream {
    Input,
    Output,
    DeadLetters,
}

impl UsedStream {
    /// Its name, and what it is used for.
    fn of(self, names: &Streams) -> (String, &'static str) {
        match self {
            UsedStream::Input => (names.input.clone(), "reading frames"),
            UsedStream::Output => (names.output.clone(), "results"),
            UsedStream::DeadLetters => (names.dead_letters.clone(), "dead letters"),
        }
    }
}

/// A key that an account uses.
struct RightsKey {
    name: String,
    /// Whether it is a prefix of further names.
    is_prefix: bool,
    purpose: &'static str,
    when: When,
    /// The sign of its use in ACL SETUSER.
    sign: &'static str,
}

/// What an account is used for.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The part of the program that connects.
    pub account: Account,
    /// The streams of each shard.
    pub streams: Vec<Streams>,
    /// The consumer group.
    pub group: String,
    /// The database.
    pub database: u32,
    /// The configuration that makes rights necessary, in addition to [`When::Always`].
    pub conditions: Vec<When>,
}

/// Something that an account lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The rule for ACL SETUSER that grants it: `+xack`, `~camera_frames`.
    pub rule: String,
    /// The command concerned, such as XGROUP CREATE.
    pub command: String,
    /// Why the command cannot be used.
    pub lack: Lack,
    /// What does not work without it.
    pub purpose: &'static str,
    /// The configuration that makes it necessary.
    pub when: When,
}

/// Why a command cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The account may not run it.
    Right,
    /// The account may not use this key.
    Key(String),
    /// The server has no such command: it was renamed, or the server is of another kind.
    Command,
}

impl Usage {
    /// The rights needed.
    pub fn rights(&self) -> impl Iterator<Item = &'static Right> + '_ {
        let needed = |when: When| when == When::Always || self.conditions.contains(&when);
        self.account.rights().filter(move |right| needed(right.when))
    }

    /// All rules for ACL SETUSER, keys first.
    pub fn rules(&self) -> Vec<String> {
        let mut rules = self.patterns();
        rules.extend(self.rights().map(|right| format!("+{}", right.rule)));
        rules
    }

    /// The complete command that creates an account with these rights and no others.
    pub fn setuser(&self, name: &str) -> String {
        format!("ACL SETUSER {name} reset on >PASSWORD resetchannels {}", self.rules().join(" "))
    }

    /// The keys as patterns; with several shards, one pattern for all of them.
    fn patterns(&self) -> Vec<String> {
        let Some(names) = self.streams.first() else { return Vec::new() };
        let pattern = |key: &RightsKey| {
            let end = if key.is_prefix { "*" } else { "" };
            let pattern = escaped(&key.name);
            match self.streams.len() {
                1 => format!("{}{pattern}{end}", key.sign),
                _ => format!("{}{}{end}", key.sign, pattern.replacen("{0}", "{*}", 1)),
            }
        };
        let mut patterns: Vec<String> = self.keys(names).iter().map(pattern).collect();
        if self.account == Account::Engine && self.conditions.contains(&When::Exclusive) {
            let of_input = |end: &str| RightsKey {
                name: format!("{}:{end}", names.input),
                is_prefix: true,
                purpose: "",
                when: When::Exclusive,
                sign: "~",
            };
            patterns.extend(["lease", "engines"].map(|end| pattern(&of_input(end))));
        }
        patterns
    }

    /// The keys of a shard.
    fn keys(&self, names: &Streams) -> Vec<RightsKey> {
        let (streams, mut sign) = self.account.streams();
        if self.conditions.contains(&When::LosslessRing) {
            sign = "~"; // a producer that also reads
        }
        let key = |name: String, purpose| RightsKey {
            name,
            is_prefix: false,
            purpose,
            when: When::Always,
            sign,
        };
        let of_stream = |stream: &UsedStream| {
            let (name, purpose) = stream.of(names);
            key(name, purpose)
        };
        let mut keys: Vec<RightsKey> = streams.iter().map(of_stream).collect();
        if self.account == Account::Bridge {
            let places = PlaceKeys::of(&names.input, &names.dead_letters, "").places;
            keys.push(RightsKey {
                is_prefix: true,
                ..key(places, "the stored positions of partitions")
            });
            keys.push(key(dead_letters_of(&names.output), "results that Kafka refuses"));
        }
        if self.conditions.contains(&When::Cameras) {
            let sign = if self.account == Account::Engine { "%R~" } else { "%W~" };
            let status = key(self.status(), "the states of the cameras");
            keys.push(RightsKey { when: When::Cameras, sign, ..status });
        }
        keys
    }

    /// The hash in which `ingest` publishes the state of its cameras; one for all shards.
    fn status(&self) -> String {
        let input = self.streams.first().map_or("", |names| names.input.as_str());
        status_key(input.strip_suffix(":{0}").unwrap_or(input))
    }

    /// Tries every right. Returns those that the account lacks.
    ///
    /// # Errors
    /// [`Fault::Connection`] if the connection is lost.
    pub fn missing(&self, control: &mut Control) -> Result<Vec<Missing>, Fault> {
        let mut missing = self.missing_keys(control)?;
        for right in self.rights() {
            let lack = match refusal(control, &self.command(right.attempt, None))? {
                Some(Refusal::Right) => Lack::Right,
                Some(Refusal::Unknown) => Lack::Command,
                Some(Refusal::Key) | None => continue,
            };
            missing.push(Missing {
                rule: format!("+{}", right.rule),
                command: right.rule.replace('|', " ").to_uppercase(),
                lack,
                purpose: right.purpose,
                when: right.when,
            });
        }
        Ok(missing)
    }

    fn missing_keys(&self, control: &mut Control) -> Result<Vec<Missing>, Fault> {
        let mut missing: Vec<Missing> = Vec::new();
        for names in self.streams.iter().take(SHARDS_TRIED) {
            for (RightsKey { name: key, is_prefix, purpose, when, .. }, rule) in
                self.keys(names).into_iter().zip(self.patterns())
            {
                let key = &key;
                let attempts = match (when, self.account) {
                    (When::Cameras, Account::Engine) => &["HGETALL {key}"][..],
                    (When::Cameras, _) => &["HDEL {key} x"],
                    _ => self.account.key_attempts(),
                };
                for attempt in attempts {
                    match refusal(control, &self.command(attempt, Some(key)))? {
                        Some(Refusal::Right | Refusal::Unknown) => continue,
                        Some(Refusal::Key) if missing.iter().all(|known| known.rule != rule) => {
                            missing.push(Missing {
                                rule,
                                command: attempt.split(' ').next().unwrap_or_default().to_owned(),
                                lack: Lack::Key(match is_prefix {
                                    true => format!("{key}*"),
                                    false => key.clone(),
                                }),
                                purpose,
                                when,
                            });
                        }
                        Some(Refusal::Key) | None => {}
                    }
                    break;
                }
            }
        }
        Ok(missing)
    }

    fn command(&self, attempt: &str, key: Option<&str>) -> Cmd {
        let [input, output, dead] =
            self.streams.first().map_or([""; 3], |names| names.all().map(String::as_str));
        let database = self.database.to_string();
        let [lease, none, engines] =
            [":lease", ":lease:none", ":engines"].map(|end| format!("{input}{end}"));
        let places = PlaceKeys::of(input, dead, "framepress-check").places;
        let status = self.status();
        let mut words = attempt.split(' ');
        let mut command = cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(match word {
                "{input}" => input,
                "{output}" => output,
                "{dead}" => dead,
                "{key}" => key.unwrap_or_default(),
                "{group}" => &self.group,
                "{consumer}" => "framepress-check",
                "{script}" => SCRIPT,
                "{digest}" => DIGEST,
                "{database}" => &database,
                "{lease}" => &lease,
                "{none}" => &none,
                "{engines}" => &engines,
                "{places}" => &places,
                "{status}" => &status,
                word => word,
            });
        }
        command
    }
}

/// A key name with the special characters of a pattern escaped.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// Why an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The account may not run the command.
    Right,
    /// The account may not use a key.
    Key,
    /// The server does not know the command.
    Unknown,
}

/// Whether a refusal says that the server does not know the command. This includes an unknown
/// subcommand of a known command.
pub fn is_unknown_command(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["err unknown command", "err unknown subcommand"].iter().any(|it| message.starts_with(it))
}

/// Tries a command. Any other refusal concerns the arguments, so the command exists and the account
/// may run it.
fn refusal(control: &mut Control, command: &Cmd) -> Result<Option<Refusal>, Fault> {
    match control.run::<Value>("a trial of rights", command) {
        Ok(_) => Ok(None),
        // The answer to a forbidden EXEC is EXECABORT, followed by the refusal.
        Err(fault) if fault.to_string().contains("NOPERM ") => {
            // "... no permissions to run the 'xadd' command", or "... to access a key".
            let is_command = fault.to_string().contains(" to run the ");
            Ok(Some(if is_command { Refusal::Right } else { Refusal::Key }))
        }
        Err(Fault::Refused { message, .. }) if is_unknown_command(&message) => {
            Ok(Some(Refusal::Unknown))
        }
        Err(Fault::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(account: Account, shards: usize) -> Usage {
        let names = |shard: usize| match shards {
            1 => Streams::new("in*", "out"),
            _ => Streams::new(format!("in:{{{shard}}}"), format!("out:{{{shard}}}")),
        };
        Usage {
            account,
            streams: (0..shards).map(names).collect(),
            group: "group".into(),
            database: 0,
            conditions: Vec::new(),
        }
    }

    #[test]
    fn a_producer_may_only_add() {
        assert_eq!(usage(Account::Producer, 1).rules(), [r"%W~in\*", "+xadd"]);
        let line = usage(Account::Producer, 2).setuser("cam");
        assert_eq!(
            line, "ACL SETUSER cam reset on >PASSWORD resetchannels %W~in:{*} +xadd",
            "one pattern for all shards"
        );
    }

    #[test]
    fn a_command_that_the_server_does_not_know_is_told_from_a_wrong_argument() {
        for unknown in [
            "ERR unknown command 'SCRIPT', with args beginning with: 'LOAD' 'return 0' ",
            "ERR unknown command `TIME`, with args beginning with: ",
            "ERR unknown subcommand 'SLOTS'. Try CLUSTER HELP.",
            "ERR Unknown subcommand or wrong number of arguments for 'REPLY'. Try CLIENT HELP.",
        ] {
            assert!(is_unknown_command(unknown), "{unknown}");
        }
        for known in [
            "ERR Invalid stream ID specified as stream command argument",
            "ERR wrong number of arguments for 'time' command",
            "ERR no such key",
            "NOPERM User u has no permissions to run the 'script|load' command",
        ] {
            assert!(!is_unknown_command(known), "{known}");
        }
    }

    #[test]
    fn a_producer_with_a_lossless_ring_reads_its_stream() {
        let mut producer = usage(Account::Producer, 1);
        producer.conditions.push(When::LosslessRing);
        assert_eq!(producer.rules(), [r"~in\*", "+xadd", "+xrange"]);
    }

    #[test]
    fn rights_that_the_configuration_does_not_need_are_left_out() {
        let mut engine = usage(Account::Engine, 1);
        assert!(!engine.rules().contains(&"+xdel".to_owned()));
        engine.conditions.push(When::Delete);
        assert!(engine.rules().contains(&"+xdel".to_owned()));
    }
}
