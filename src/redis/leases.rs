//! Leases of streams and the list of engines; each step is one script, see `lease.lua` and
//! `members.lua`.

use std::time::Duration;

use redis::{Cmd, Value, cmd};

use super::control::converted;
use super::route::is_sent_on;
use super::{Control, Topology};
use crate::base::Fault;
use crate::frame::EntryId;

const LEASE: &str = include_str!("lease.lua");

const MEMBERS: &str = include_str!("members.lua");

/// Has a server without memory run the script all the same: what frees memory is done under a lease.
const ALLOWED: &str = "#!lua flags=allow-oom\n";

/// The right to change a stream: a lease in the hands of one engine, from one taking on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// The key of the lease.
    pub lease: String,
    /// The stream that a reader names beside its own; see `lease.lua`.
    pub stream: String,
    /// The epoch of the lease.
    pub epoch: u64,
}

/// Who asks for leases, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The consumer group.
    pub group: String,
    /// The engine, by a name that no other start of any engine has.
    pub holder: String,
    /// For how long a lease is taken or renewed.
    pub length: Duration,
}

/// What an engine asks of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAsk {
    /// To have it, in a higher epoch than this.
    Take(u64),
    /// To keep the one of that epoch.
    Renew(u64, Handover),
    /// To give the one of that epoch back.
    Give(u64, Handover),
    /// How it stands.
    Look,
}

/// What the next holder has to know of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Every entry up to this one has ended.
    pub ended: EntryId,
    /// The identity of the consumer group; empty if it is not known.
    pub group: String,
}

/// How a lease stands, or stood before it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// Whether the caller got what it asked for.
    pub done: bool,
    /// The engine that has it, or had it last; empty if it was given back.
    pub holder: String,
    /// Its epoch; of a lease just taken, the new one.
    pub epoch: u64,
    /// Until its end; zero if it is over.
    pub left: Duration,
    /// Since its end; zero if it lies ahead.
    pub over_since: Duration,
    /// What the last holder has left.
    pub handover: Handover,
}

/// What an engine has to say about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Here,
    /// It leaves.
    Gone,
    /// It has given a stream back.
    Told,
}

/// The engines that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The last change told of.
    pub last_change: EntryId,
    /// Their names.
    pub names: Vec<String>,
}

impl LeaseTerms {
    /// The right that comes with the lease of that key in that epoch.
    pub fn tenure(&self, lease: &str, epoch: u64) -> Tenure {
        let stream = format!("{lease}:{}:{epoch}", self.holder);
        Tenure { lease: lease.to_owned(), stream, epoch }
    }

    /// The command of a step.
    pub(super) fn command(&self, lease: &str, ask: &LeaseAsk, is_allowed: bool) -> Cmd {
        let none = Handover::default();
        let (action, epoch, handover) = match ask {
            LeaseAsk::Take(known) => ("take", *known, &none),
            LeaseAsk::Renew(epoch, handover) => ("renew", *epoch, handover),
            LeaseAsk::Give(epoch, handover) => ("give", *epoch, handover),
            LeaseAsk::Look => ("look", 0, &none),
        };
        let mut command = eval(LEASE, is_allowed);
        command.arg(1).arg(lease).arg(action).arg(&self.holder).arg(epoch);
        command.arg(millis(self.length)).arg(&self.group);
        command.arg(handover.ended.to_string()).arg(&handover.group);
        command
    }
}

/// A client for leases.
#[derive(Debug)]
pub struct LeaseClient {
    control: Control,
    terms: LeaseTerms,
    /// The list of engines, and the stream that tells of its changes.
    engines: [String; 2],
    /// Whether the servers understand [`ALLOWED`].
    is_allowed: bool,
}

impl LeaseClient {
    /// A client that waits for each answer for at most `timeout`.
    ///
    /// # Errors
    /// As [`Control::new`].
    pub fn new(
        topology: &Topology,
        terms: LeaseTerms,
        engines: [String; 2],
        timeout: Duration,
    ) -> Result<LeaseClient, Fault> {
        let control = Control::new(topology, timeout)?;
        Ok(LeaseClient { control, terms, engines, is_allowed: true })
    }

    /// Says how the caller is, and asks for leases, each by its key: one round trip to each server. A
    /// fault at one server is the answer for its keys alone.
    pub fn round(
        &mut self,
        presence: Presence,
        asks: &[(&str, LeaseAsk)],
    ) -> (Result<Members, Fault>, Vec<Result<LeaseState, Fault>>) {
        let members = self.engines[0].clone();
        let mut answers = self.attempt(&members, presence, asks);
        let is_unread = |answer: &Result<Value, Fault>| {
            answer.as_ref().is_err_and(|fault| is_not_compiled(fault))
        };
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
        asks: &[(&str, LeaseAsk)],
    ) -> Vec<Result<Value, Fault>> {
        let mut command = eval(MEMBERS, self.is_allowed);
        command.arg(2).arg(&self.engines).arg(&self.terms.holder).arg(millis(self.terms.length));
        command.arg(match presence {
            Presence::Here => "here",
            Presence::Gone => "gone",
            Presence::Told => "told",
        });
        let mut commands = vec![(members, "the list of engines", command)];
        commands.extend(
            asks.iter().map(|(key, ask)| {
                (*key, "the lease", self.terms.command(key, ask, self.is_allowed))
            }),
        );
        self.control.run_by_server(&commands)
    }

    /// Waits for a change after `last`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn await_change(&mut self, last: EntryId, limit: Duration) -> Result<(), Fault> {
        let [_, changes] = &self.engines;
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(millis(limit).max(1));
        command.arg("STREAMS").arg(changes).arg(last.to_string());
        self.control.run_on::<Value>(changes, "XREAD", &command).map(|_| ())
    }
}

impl Control {
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
        // What another server has by now is asked for there.
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

/// Whether a server cannot read the first line of a script.
pub(super) fn is_not_compiled(fault: &Fault) -> bool {
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

pub(super) fn lease_state(answer: Value) -> Result<LeaseState, Fault> {
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
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::Stop;
    use crate::redis::Embedded;

    const LEASE_KEY: &str = "in:lease";
    const LIMIT: Duration = Duration::from_secs(30);
    const LENGTH: Duration = Duration::from_secs(2);

    struct World {
        server: Embedded,
    }

    impl World {
        fn start() -> World {
            let server = Embedded::start(&Stop::default()).unwrap();
            World { server }
        }

        fn engine(&self, name: &str) -> Engine {
            self.engine_for(name, LENGTH)
        }

        fn engine_for(&self, name: &str, length: Duration) -> Engine {
            let terms = LeaseTerms { group: "group".into(), holder: name.into(), length };
            let topology = Topology::from(self.server.address());
            let engines = ["in:engines".into(), "in:engines:changes".into()];
            Engine(LeaseClient::new(&topology, terms, engines, LIMIT).unwrap())
        }

        fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Fault> {
            let mut command = cmd(words[0]);
            words[1..].iter().for_each(|word| {
                command.arg(*word);
            });
            Control::new(self.server.address(), LIMIT)?.run("test", &command)
        }

        fn lease(&self) -> HashMap<String, String> {
            self.run(&["HGETALL", LEASE_KEY]).unwrap()
        }

        /// Sets the end of the lease, so that no test has to wait for it.
        fn end_lease(&self) {
            self.run::<Value>(&["HSET", LEASE_KEY, "until_ms", "1"]).unwrap();
        }
    }

    struct Engine(LeaseClient);

    impl Engine {
        fn ask(&mut self, ask: LeaseAsk) -> LeaseState {
            let (members, mut states) = self.0.round(Presence::Here, &[(LEASE_KEY, ask)]);
            members.unwrap();
            states.remove(0).unwrap()
        }

        fn take(&mut self) -> LeaseState {
            self.ask(LeaseAsk::Take(0))
        }

        fn renew(&mut self, epoch: u64) -> bool {
            self.ask(LeaseAsk::Renew(epoch, Handover::default())).done
        }

        fn give(&mut self, epoch: u64) -> bool {
            self.ask(LeaseAsk::Give(epoch, Handover::default())).done
        }

        fn tenure(&self, epoch: u64) -> Tenure {
            self.0.terms.tenure(LEASE_KEY, epoch)
        }
    }

    #[test]
    fn a_lease_is_taken_once_and_each_change_of_holder_raises_its_epoch() {
        let world = World::start();
        let (mut one, mut two) = (world.engine("one"), world.engine("two"));
        let taken = one.take();
        assert!(taken.done);
        assert_eq!((taken.holder.as_str(), taken.epoch), ("", 1));
        assert_eq!(world.lease()["holder"], "one");
        let refused = two.take();
        assert!(!refused.done);
        assert_eq!((refused.holder.as_str(), refused.epoch), ("one", 1));
        assert!(refused.left > LENGTH / 2 && refused.left <= LENGTH);
        world.end_lease();
        let taken = two.take();
        assert!(taken.done, "it was over");
        assert_eq!((taken.holder.as_str(), taken.epoch), ("one", 2));
        assert!(!one.renew(1) && !one.give(1), "it is another's");
        assert!(two.renew(2) && two.give(2));
        let free = one.ask(LeaseAsk::Look);
        assert_eq!((free.holder.as_str(), free.epoch, free.left), ("", 2, Duration::ZERO));
        assert_eq!(one.take().epoch, 3);
        assert_eq!(one.take().epoch, 4, "a lease taken again has another epoch");
    }

    #[test]
    fn an_epoch_goes_above_what_the_caller_knows_though_the_server_knows_less() {
        let world = World::start();
        let mut one = world.engine("one");
        assert_eq!(one.ask(LeaseAsk::Take(7)).epoch, 8);
        world.run::<Value>(&["DEL", LEASE_KEY]).unwrap();
        assert!(!one.renew(8), "a server that has lost the lease does not renew it");
        assert_eq!(one.ask(LeaseAsk::Take(8)).epoch, 9);
    }

    #[test]
    fn a_lease_that_is_over_can_be_renewed_until_another_engine_takes_it() {
        let world = World::start();
        let mut one = world.engine("one");
        one.take();
        world.end_lease();
        assert!(one.renew(1));
        assert!(one.ask(LeaseAsk::Look).left > Duration::ZERO);
    }

    #[test]
    fn a_lease_made_before_the_clock_was_set_back_ends_in_time() {
        let world = World::start();
        let mut two = world.engine("two");
        world.engine_for("one", Duration::from_secs(9)).take();
        world.run::<Value>(&["HSET", LEASE_KEY, "until_ms", "9000000000000"]).unwrap();
        let left = two.ask(LeaseAsk::Look).left;
        assert!(left > Duration::from_secs(8) && left <= Duration::from_secs(9), "{left:?}");
    }

    #[test]
    fn requests_of_the_former_holder_read_nothing_any_more() {
        let world = World::start();
        let (mut one, mut two) = (world.engine("one"), world.engine("two"));
        world.run::<Value>(&["XGROUP", "CREATE", "in", "group", "0", "MKSTREAM"]).unwrap();
        one.take();
        let stream = one.tenure(1).stream;
        let read = |block: &str| {
            let (group, names) = (["XREADGROUP", "GROUP", "group", "one"], ["STREAMS", "in"]);
            let words = [&group[..], &["BLOCK", block], &names, &[stream.as_str(), ">", ">"]];
            world.run::<Value>(&words.concat())
        };
        assert_eq!(read("1").unwrap(), Value::Nil, "the holder may read");
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| read("20000"));
            // The reader waits at the server before the lease changes hands.
            while !world.run::<String>(&["CLIENT", "LIST"]).unwrap().contains("cmd=xreadgroup") {
                std::thread::sleep(Duration::from_millis(1));
            }
            world.end_lease();
            assert!(two.take().done);
            let fault = blocked.join().unwrap().unwrap_err();
            assert!(matches!(fault.redis_code(), Some("UNBLOCKED" | "NOGROUP")), "{fault}");
        });
        world.run::<Value>(&["XADD", "in", "*", "data", "x"]).unwrap();
        assert_eq!(read("1").unwrap_err().redis_code(), Some("NOGROUP"));
    }

    #[test]
    fn the_next_holder_hears_what_the_last_one_has_left() {
        let world = World::start();
        let (mut one, mut two) = (world.engine("one"), world.engine("two"));
        one.take();
        let ended = EntryId { millis: 5, sequence: 1 };
        let handover = Handover { ended, group: "identity".into() };
        assert!(one.ask(LeaseAsk::Renew(1, handover.clone())).done);
        world.end_lease();
        assert_eq!(two.take().handover, handover);
    }

    #[test]
    fn members_come_and_go_and_each_change_wakes_the_others() {
        let world = World::start();
        let (mut one, mut two) = (world.engine("one"), world.engine("two"));
        let say = |engine: &mut Engine, what| engine.0.round(what, &[]).0.unwrap();
        let first = say(&mut one, Presence::Here);
        assert_eq!(first.names, ["one"]);
        let again = say(&mut one, Presence::Here);
        assert_eq!(again.last_change, first.last_change, "a further sign of life is no change");
        let both = say(&mut two, Presence::Here);
        assert_eq!(both.names, ["one", "two"]);
        assert!(both.last_change > first.last_change);
        one.0.await_change(first.last_change, Duration::from_secs(20)).unwrap();
        assert_eq!(say(&mut two, Presence::Gone).names, ["one"]);
        // One that was silent for longer than a lease lasts is not there.
        world.run::<Value>(&["ZADD", "in:engines", "1", "silent"]).unwrap();
        assert_eq!(say(&mut one, Presence::Here).names, ["one"]);
    }

    #[test]
    fn what_a_former_holder_does_to_a_stream_is_refused() {
        let world = World::start();
        let (mut one, mut two) = (world.engine("one"), world.engine("two"));
        one.take();
        let script = concat!("local LEASE = 2\n", include_str!("fence.lua"), "return 'done'");
        let attempt = |tenure: &Tenure| {
            let keys = ["in", &tenure.lease, &tenure.stream];
            world.run::<String>(&[&["EVAL", script, "3"], &keys[..]].concat())
        };
        assert_eq!(attempt(&one.tenure(1)).unwrap(), "done");
        world.end_lease();
        assert_eq!(attempt(&one.tenure(1)).unwrap(), "done", "no other engine has it");
        two.take();
        assert_eq!(attempt(&one.tenure(1)).unwrap_err().redis_code(), Some("LEASE"));
        assert_eq!(attempt(&one.tenure(2)).unwrap_err().redis_code(), Some("LEASE"));
        assert_eq!(attempt(&two.tenure(2)).unwrap(), "done");
        two.give(2);
        assert_eq!(attempt(&two.tenure(2)).unwrap_err().redis_code(), Some("LEASE"));
        assert_eq!(world.run::<String>(&["EVAL", script, "1", "in"]).unwrap(), "done", "shared");
    }
}
