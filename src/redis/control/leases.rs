//! Leases of streams and the list of engines. Each step is one script; see `lease.lua` and
//! `members.lua`.

use std::time::Duration;

use redis::{Cmd, Value, cmd};

use super::Control;
use super::converted;
use crate::base::Fault;
use crate::frame::EntryId;
use crate::redis::topology::Topology;
use crate::redis::topology::route::is_sent_on;

const LEASE: &str = include_str!("../scripts/lease.lua");

const MEMBERS: &str = include_str!("../scripts/members.lua");

/// Script header that allows the script on a server out of memory, because freeing memory needs a
/// lease.
const ALLOWED: &str = "#!lua flags=allow-oom\n";

/// The default consumer group; its keys do not contain its name.
const ORDINARY_GROUP: &str = "stream_processor";

/// The key of the lease of an input stream, for a consumer group.
pub fn lease_key(input: &str, group: &str) -> String {
    of_group(input, "lease", group)
}

/// The keys of a consumer group's list of engines and of the stream that announces its changes.
/// `first` is the input stream of the first shard.
pub fn engines_keys(first: &str, group: &str) -> [String; 2] {
    let engines = of_group(first, "engines", group);
    let changes = format!("{engines}:changes");
    [engines, changes]
}

fn of_group(input: &str, what: &str, group: &str) -> String {
    if group == ORDINARY_GROUP {
        format!("{input}:{what}")
    } else {
        format!("{input}:{what}:{group}")
    }
}

/// The right to change a stream: a lease held by one engine in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// The key of the lease.
    pub lease: String,
    /// The tenure stream, which a reader names beside its own; see `lease.lua`.
    pub stream: String,
    /// The epoch of the lease.
    pub epoch: u64,
}

/// The parties and the length of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The consumer group.
    pub group: String,
    /// A name of the engine that is unique to this process.
    pub holder: String,
    /// The length of a lease; a server far away gets longer ones.
    pub length: Duration,
}

/// A request about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAsk {
    /// Take it, in a higher epoch than this.
    Take(u64),
    /// Keep it in this epoch.
    Renew(u64, Handover),
    /// Give it back in this epoch.
    Give(u64, Handover),
    /// Only read its state.
    Look,
}

/// What the next holder of a stream has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Every entry up to this one has ended.
    pub ended: EntryId,
    /// The identity of the consumer group; empty if unknown.
    pub group: String,
}

/// The state of a lease, or its state before it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// Whether the request succeeded.
    pub done: bool,
    /// The engine that holds it or held it last; empty if it was given back.
    pub holder: String,
    /// Its epoch; the new one if it was just taken.
    pub epoch: u64,
    /// Time until it expires; zero if it has expired.
    pub left: Duration,
    /// Time since it expired; zero if it has not.
    pub over_since: Duration,
    /// What the last holder stored for the next.
    pub handover: Handover,
}

/// What an engine announces about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The engine is present.
    Here,
    /// The engine leaves.
    Gone,
    /// The engine has given a stream back.
    Told,
    /// The engine has given a stream back and leaves.
    Left,
}

/// The engines that are present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The latest announced change.
    pub last_change: EntryId,
    /// Their names.
    pub names: Vec<String>,
}

impl LeaseTerms {
    /// The tenure of the lease `lease` in the given epoch.
    pub fn tenure(&self, lease: &str, epoch: u64) -> Tenure {
        let stream = format!("{lease}:{}:{epoch}", self.holder);
        Tenure { lease: lease.to_owned(), stream, epoch }
    }

    fn members(&self, engines: &[String; 2], presence: Presence, is_allowed: bool) -> Cmd {
        let mut command = eval(MEMBERS, is_allowed);
        command.arg(2).arg(engines).arg(&self.holder).arg(millis(self.length));
        command.arg(match presence {
            Presence::Here => "here",
            Presence::Gone => "gone",
            Presence::Told => "told",
            Presence::Left => "left",
        });
        command
    }

    /// Builds the script call for a request.
    pub(in crate::redis) fn command(
        &self,
        lease: &str,
        ask: &LeaseAsk,
        length: Duration,
        is_allowed: bool,
    ) -> Cmd {
        let none = Handover::default();
        let (action, epoch, handover) = match ask {
            LeaseAsk::Take(known) => ("take", *known, &none),
            LeaseAsk::Renew(epoch, handover) => ("renew", *epoch, handover),
            LeaseAsk::Give(epoch, handover) => ("give", *epoch, handover),
            LeaseAsk::Look => ("look", 0, &none),
        };
        let mut command = eval(LEASE, is_allowed);
        command.arg(1).arg(lease).arg(action).arg(&self.holder).arg(epoch);
        command.arg(millis(length)).arg(&self.group);
        command.arg(handover.ended.to_string()).arg(&handover.group);
        command
    }
}

/// A client for leases.
#[derive(Debug)]
pub struct LeaseClient {
    control: Control,
    terms: LeaseTerms,
    /// The list of engines and the stream that announces its changes.
    engines: [String; 2],
    /// Whether to send [`ALLOWED`]; cleared when a server does not understand it.
    is_allowed: bool,
}

impl LeaseClient {
    /// Creates a client that waits at most `timeout` for each answer.
    ///
    /// # Errors
    /// As [`Control::new`].
    pub fn new(
        topology: &Topology,
        terms: LeaseTerms,
        engines: [String; 2],
        timeout: Duration,
    ) -> Result<LeaseClient, Fault> {
        let control = Control::new(topology, timeout);
        Ok(LeaseClient { control, terms, engines, is_allowed: true })
    }

    /// Announces `presence` and sends the requests, each with its key and lease length, in one
    /// round trip to each server. A fault at one server is the answer for its keys alone.
    pub fn round(
        &mut self,
        presence: Presence,
        asks: &[(&str, LeaseAsk, Duration)],
    ) -> (Result<Members, Fault>, Vec<Result<LeaseState, Fault>>) {
        let members = self.engines[0].clone();
        let mut answers = self.attempt(&members, presence, asks);
        let is_unread = |answer: &Result<Value, Fault>| answer.as_ref().is_err_and(is_not_compiled);
        if self.is_allowed && answers.iter().any(is_unread) {
            self.is_allowed = false;
            answers = self.attempt(&members, presence, asks);
        }
        let mut answers = answers.into_iter();
        let first = answers.next().unwrap_or(Ok(Value::Nil));
        (first.and_then(members_of), answers.map(|it| it.and_then(lease_state)).collect())
    }

    fn attempt(
        &mut self,
        members: &str,
        presence: Presence,
        asks: &[(&str, LeaseAsk, Duration)],
    ) -> Vec<Result<Value, Fault>> {
        let command = self.terms.members(&self.engines, presence, self.is_allowed);
        let mut commands = vec![(members, "the list of engines", command)];
        commands.extend(asks.iter().map(|(key, ask, length)| {
            let command = self.terms.command(key, ask, *length, self.is_allowed);
            (*key, "the lease", command)
        }));
        self.control.run_by_server(&commands)
    }

    /// Waits at most `limit` for a change after `last`. Returns whether there was one.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn await_change(&mut self, last: EntryId, limit: Duration) -> Result<bool, Fault> {
        let [_, changes] = &self.engines;
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(millis(limit).max(1));
        command.arg("STREAMS").arg(changes).arg(last.to_string());
        self.control.run_on::<Value>(changes, "XREAD", &command).map(|answer| answer != Value::Nil)
    }
}

impl Control {
    /// Announces an engine's presence in the list of engines.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn tell(
        &mut self,
        terms: &LeaseTerms,
        engines: &[String; 2],
        presence: Presence,
    ) -> Result<(), Fault> {
        let command = terms.members(engines, presence, false);
        self.run_on::<Value>(&engines[0], "the list of engines", &command).map(|_| ())
    }

    /// Runs commands, each on the server that has its key, in one round trip for each server.
    fn run_by_server(
        &mut self,
        commands: &[(&str, &'static str, Cmd)],
    ) -> Vec<Result<Value, Fault>> {
        let mut answers: Vec<Option<Result<Value, Fault>>> = Vec::new();
        answers.resize_with(commands.len(), || None);
        let servers: Vec<_> = commands.iter().map(|(key, ..)| self.server_of(key)).collect();
        for first in 0..commands.len() {
            let Ok(server) = &servers[first] else { continue };
            if answers[first].is_some() {
                continue;
            }
            let is_there = |at: &usize| servers[*at].as_ref().is_ok_and(|other| other == server);
            let there: Vec<usize> = (first..commands.len()).filter(is_there).collect();
            let together: Vec<_> =
                there.iter().map(|&at| (commands[at].1, commands[at].2.clone())).collect();
            let mut all = Vec::new();
            let end = self.at_server_of(commands[first].0, |connection| {
                all = connection.query_all(&together)?;
                Ok(())
            });
            let lost = end.err().map(|fault| fault.to_string());
            let mut all = all.into_iter();
            for at in there {
                let detail = lost.as_deref().unwrap_or("no answer");
                let answer = all.next().unwrap_or_else(|| Err(Fault::connection(server, detail)));
                answers[at] = Some(answer);
            }
        }
        // If a key has moved to another server, the command is repeated there.
        let is_elsewhere = |fault: &Fault| fault.redis_code().is_some_and(is_sent_on);
        let ended = commands.iter().zip(servers).zip(answers);
        ended
            .map(|(((key, name, command), server), answer)| match (answer, server) {
                (Some(Err(fault)), _) if is_elsewhere(&fault) => self.run_on(key, name, command),
                (Some(answer), _) => answer,
                (None, Err(fault)) => Err(fault),
                (None, Ok(server)) => Err(Fault::connection(server, "no answer")),
            })
            .collect()
    }
}

/// Whether a server did not understand the first line of a script.
pub(in crate::redis) fn is_not_compiled(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { message, .. } if message.contains("compiling"))
}

fn eval(script: &str, is_allowed: bool) -> Cmd {
    let mut command = cmd("EVAL");
    match is_allowed {
        true => command.arg([ALLOWED, script].concat()),
        false => command.arg(script),
    };
    command
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn members_of(answer: Value) -> Result<Members, Fault> {
    let (last, names): (String, Vec<String>) = converted(answer)?;
    Ok(Members { last_change: EntryId::parse(last.as_bytes()).unwrap_or_default(), names })
}

pub(in crate::redis) fn lease_state(answer: Value) -> Result<LeaseState, Fault> {
    type Stands = (i64, String, String, String, String, String);
    let (done, holder, epoch, left, ended, group): Stands = converted(answer)?;
    let left: i64 = left.parse().unwrap_or(0);
    let time = Duration::from_millis(left.unsigned_abs());
    Ok(LeaseState {
        done: done == 1,
        holder,
        epoch: epoch.parse().unwrap_or(0),
        left: if left > 0 { time } else { Duration::ZERO },
        over_since: if left > 0 { Duration::ZERO } else { time },
        handover: Handover { ended: EntryId::parse(ended.as_bytes()).unwrap_or_default(), group },
    })
}

#[cfg(test)]
mod tests;
