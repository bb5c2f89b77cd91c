//! Sends commits to the right servers: one batch may concern several nodes of a Cluster.
//!
//! Every node is sent its share before any answer is awaited, so that the nodes work in parallel.
//! Batches may follow each other without waiting, because every connection answers in order. If
//! input and output are in different slots, which only `at_least_once` allows, a result is added
//! first and its entry acknowledged afterwards, one batch at a time.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::sink::{TaskPart, Which};
use super::{Action, CommitAnswer, CommitPlan, Sink, Task};
use crate::base::{Fault, Stop, error_code, limits};
use crate::frame::{EntryId, Refused};
use crate::metrics::{Metrics, RoundTrip};
use crate::redis::control::Control;
use crate::redis::control::DEAD_LETTER_FIELDS;
use crate::redis::protocol::connection::Waited;
use crate::redis::topology::open::{Connected, Open};
use crate::redis::topology::route::{Next, is_sent_on};
use crate::redis::topology::{Route, Streams, Topology};

/// One [`Sink`] per server, opened when needed.
#[derive(Debug)]
pub struct Sinks {
    route: Route,
    plan: Arc<CommitPlan>,
    name: String,
    timeout: Duration,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Open<Sink>,
    made: u64,
    /// Copies dead letters between two nodes; rarely needed.
    control: Option<Control>,
    /// Entries of the current batch whose result was added but which are not acknowledged yet; not
    /// to be added again.
    added: HashSet<(usize, EntryId)>,
}

/// The index of an open sink, and the tasks of a batch for it.
type Share = (usize, Which);

/// Tasks that were sent and await answers.
#[derive(Debug, Default)]
pub struct Sent {
    /// For each connection number, its tasks.
    shares: SmallVec<[(u64, Which); 1]>,
}

impl Sinks {
    /// Creates sinks for the streams of `plan`; connects nothing yet.
    pub fn new(
        topology: &Topology,
        plan: &Arc<CommitPlan>,
        name: String,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Sinks {
        Sinks {
            route: Route::new(topology),
            plan: Arc::clone(plan),
            name,
            timeout,
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
            open: Open::default(),
            made: 0,
            control: None,
            added: HashSet::new(),
        }
    }

    /// Connects to every server that has the input stream of one of `shards`.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn connect(&mut self, shards: &[usize]) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        shards.iter().try_for_each(|&shard| self.sink_for(&plan.streams[shard].input).map(|_| ()))
    }

    /// Whether storing a result and acknowledging its entry take two steps, because a script can
    /// only use keys of one slot.
    pub fn is_apart(&self) -> bool {
        self.route.topology().is_cluster() && self.plan.streams.iter().any(Streams::is_apart)
    }

    /// Connections opened so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Closes all connections, so that reconnecting loads the scripts again after a server has
    /// forgotten them.
    pub fn reload(&mut self) {
        self.open.clear();
    }

    /// Round trips to the most distant connected server.
    pub fn round_trip(&self) -> Option<Arc<RoundTrip>> {
        self.open
            .iter()
            .map(Sink::round_trip)
            .max_by_key(|round_trip| round_trip.shortest())
            .cloned()
    }

    /// Whether tasks of `shards` can be sent on open connections without waiting.
    pub fn is_ready(&mut self, shards: &[usize]) -> bool {
        shards.iter().all(|&shard| {
            let address = self.route.known(&self.plan.streams[shard].input);
            address.is_some_and(|address| {
                self.open.iter().any(|sink| sink.address().is_same(&address) && !sink.is_left)
            })
        })
    }

    /// Closes connections to servers that take no writes, and with `idle` also those that have not
    /// been used for a while. Must not be called while answers are awaited.
    pub fn tidy(&mut self, idle: bool) {
        if idle {
            self.open.tidy();
        }
        while let Some(at) = self.position(|sink| sink.is_left) {
            self.open.close(at);
        }
    }

    /// Sends all tasks without waiting for answers. `answers` gets one answer per task:
    /// [`CommitAnswer::Unknown`] if it is to be received, else [`CommitAnswer::Unsent`].
    pub fn send(
        &mut self,
        tasks: &[Task<'_>],
        answers: &mut Vec<CommitAnswer>,
    ) -> (Sent, Result<(), Fault>) {
        answers.clear();
        answers.resize(tasks.len(), CommitAnswer::Unsent);
        let all: Which = (0..tasks.len()).collect();
        self.send_part(tasks, &all, TaskPart::Whole, answers)
    }

    /// Waits for the first answer to `sent`, which must be the oldest sending, or until `beside` is
    /// readable.
    ///
    /// # Errors
    /// As [`Sink::open`]; then nothing sent to that server will be answered.
    pub fn wait(
        &mut self,
        sent: &Sent,
        limit: Duration,
        beside: BorrowedFd<'_>,
    ) -> Result<Waited, Fault> {
        let Some(at) = sent.shares.first().and_then(|(number, _)| self.numbered(*number)) else {
            return Ok(Waited::Ready);
        };
        let waited = self.open[at].wait(limit, beside);
        waited.inspect_err(|fault| self.lose(at, fault))
    }

    /// Receives the answers to the oldest sending, each at its task's index. `shard_of` returns the
    /// shard of a task.
    ///
    /// # Errors
    /// The fault of the first server that was lost; its tasks keep [`CommitAnswer::Unknown`].
    pub fn receive(
        &mut self,
        sent: &Sent,
        shard_of: impl Fn(usize) -> usize,
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        self.receive_part(sent, shard_of, TaskPart::Whole, answers)
    }

    /// Number of entries in the output stream of a shard.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn output_length(&mut self, shard: usize) -> Result<u64, Fault> {
        let plan = Arc::clone(&self.plan);
        let output = &plan.streams[shard].output;
        let mut hops = 0;
        loop {
            let at = self.sink_for(output)?;
            let fault = match self.open[at].output_length(shard) {
                Ok(length) => return Ok(length),
                Err(fault) => fault,
            };
            let address = self.open[at].address().clone();
            hops += 1;
            if !self.route.handle_trouble(output, &address, &fault) {
                self.open.close(at);
            } else if hops <= limits::HOPS_MAX {
                continue;
            }
            return Err(fault);
        }
    }

    /// Ends all tasks if input and output are in different slots. `answers` gets one answer per
    /// task, in order.
    ///
    /// # Errors
    /// The fault of the first server that could not be reached or was lost. Its tasks have
    /// [`CommitAnswer::Unsent`] or [`CommitAnswer::Unknown`]; all others have their own answer.
    pub fn commit(
        &mut self,
        tasks: &[Task<'_>],
        answers: &mut Vec<CommitAnswer>,
    ) -> Result<(), Fault> {
        answers.clear();
        answers.resize(tasks.len(), CommitAnswer::Unsent);
        self.commit_apart(tasks, answers)
    }

    /// Tests whether acknowledging is allowed, adds the results, then acknowledges the entries of
    /// those that were added. If the acknowledgement fails, the next attempt only acknowledges.
    fn commit_apart(
        &mut self,
        tasks: &[Task<'_>],
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        let key = |task: &Task<'_>| (task.shard, task.id);
        // Forget entries that are not in this batch: they have ended and do not come again.
        self.added.retain(|added| tasks.iter().any(|task| key(task) == *added));
        let all: Which = (0..tasks.len()).collect();
        let mut end = self.follow(tasks, all, TaskPart::Probe, answers);
        let may_end: Which = (0..tasks.len()).filter(|&index| is_done(&answers[index])).collect();
        may_end.iter().for_each(|&index| answers[index] = CommitAnswer::Unsent);
        let is_new_result = |&index: &usize| {
            let task = &tasks[index];
            matches!(task.action, Action::Store { .. }) && !self.added.contains(&key(task))
        };
        let results: Which = may_end.iter().copied().filter(is_new_result).collect();
        end = end.and(self.follow(tasks, results, TaskPart::Add, answers));
        let mut ready = Which::new();
        for index in may_end {
            let task = &tasks[index];
            let is_added = match task.action {
                _ if self.added.contains(&key(task)) => true,
                Action::Store { .. } => is_done(&answers[index]),
                Action::Drop => true,
                Action::DeadLetter { .. } => match self.copy_dead_letter(task) {
                    Ok(()) => true,
                    Err(Fault::Refused { message, .. }) => {
                        answers[index] = CommitAnswer::Refused(message);
                        false
                    }
                    Err(fault) => {
                        end = end.and(Err(fault));
                        false
                    }
                },
            };
            if is_added {
                self.added.insert(key(task));
                answers[index] = CommitAnswer::Unsent;
                ready.push(index);
            }
        }
        end = end.and(self.follow(tasks, ready.clone(), TaskPart::Acknowledge, answers));
        for &index in &ready {
            if is_done(&answers[index]) || answers[index] == CommitAnswer::DoneBefore {
                self.added.remove(&key(&tasks[index]));
            }
        }
        end
    }

    fn copy_dead_letter(&mut self, task: &Task<'_>) -> Result<(), Fault> {
        let Action::DeadLetter { refused, deliveries, failed_at } = task.action else {
            return Ok(());
        };
        let plan = Arc::clone(&self.plan);
        let Refused { reject, whole } = refused;
        let Streams { input, dead_letters, .. } = &plan.streams[task.shard];
        let [original_id, queue, reason, detail, stage, times, when] = DEAD_LETTER_FIELDS;
        let added = [
            (original_id, EntryId::to_string(&task.id)),
            (queue, input.clone()),
            (reason, reject.reason.code().to_owned()),
            (detail, reject.detail.clone().into_owned()),
            (stage, reject.stage.name().to_owned()),
            (times, deliveries.to_string()),
            (when, failed_at.to_string()),
        ];
        let mut control = match self.control.take() {
            Some(control) => control,
            None => Control::new(self.route.topology(), self.timeout),
        };
        let limit = plan.dead_letter_length_max;
        let copied =
            control.copy((input, task.id), dead_letters, (whole.as_deref(), &added), limit);
        self.control = Some(control);
        copied
    }

    /// Repeats round trips to all servers concerned until no node redirects a task.
    fn follow(
        &mut self,
        tasks: &[Task<'_>],
        mut which: Which,
        part: TaskPart,
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        let mut end = self.round(tasks, &which, part, answers);
        for _ in 0..limits::HOPS_MAX {
            which.retain(|index| match &answers[*index] {
                CommitAnswer::Refused(message) => is_sent_on(error_code(message)),
                _ => false,
            });
            if which.is_empty() {
                break;
            }
            which.iter().for_each(|&index| answers[index] = CommitAnswer::Unsent);
            end = end.and(self.round(tasks, &which, part, answers));
        }
        end
    }

    /// One round trip to every server concerned.
    fn round(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: TaskPart,
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        let (sent, end) = self.send_part(tasks, which, part, answers);
        let received = self.receive_part(&sent, |index| tasks[index].shard, part, answers);
        self.tidy(true);
        end.and(received)
    }

    /// Sends `part` of the given tasks to every server concerned.
    fn send_part(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: TaskPart,
        answers: &mut [CommitAnswer],
    ) -> (Sent, Result<(), Fault>) {
        let (shares, mut end) = self.shares(tasks, which, part);
        let mut sent = Sent::default();
        let mut lost: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, share) in shares {
            // Even if sending fails, a part may have arrived.
            share.iter().for_each(|&index| answers[index] = CommitAnswer::Unknown);
            match self.open[at].send(tasks, &share, part) {
                Ok(()) => sent.shares.push((self.open[at].number, share)),
                Err(fault) => {
                    self.route.topology().learn(self.open[at].address(), &fault);
                    lost.push(at);
                    end = end.and(Err(fault));
                }
            }
        }
        lost.sort_unstable();
        lost.into_iter().rev().for_each(|at| self.open.close(at));
        (sent, end)
    }

    fn receive_part(
        &mut self,
        sent: &Sent,
        shard_of: impl Fn(usize) -> usize,
        part: TaskPart,
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        let mut end = Ok(());
        for (number, share) in &sent.shares {
            // The connection was lost while answers to an earlier sending were received.
            let Some(at) = self.numbered(*number) else { continue };
            let received = self.open[at].receive(share, part, answers);
            for &index in share {
                let CommitAnswer::Refused(message) = &answers[index] else { continue };
                let key = key_of(&self.plan, shard_of(index), part);
                let next = self.route.refused(key, self.open[at].address(), message);
                self.open[at].is_left |= next == Next::Leave;
            }
            if let Err(fault) = received {
                self.lose(at, &fault);
                end = end.and(Err(fault));
            }
        }
        end
    }

    /// Drops a connection; what was sent on it and not answered is given up.
    fn lose(&mut self, at: usize, fault: &Fault) {
        self.route.topology().learn(self.open[at].address(), fault);
        self.open.close(at);
    }

    fn numbered(&self, number: u64) -> Option<usize> {
        self.position(|sink| sink.number == number)
    }

    fn position(&self, is_it: impl FnMut(&Sink) -> bool) -> Option<usize> {
        self.open.iter().position(is_it)
    }

    /// Assigns the tasks to open sinks. Also returns the first fault in opening one.
    fn shares(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: TaskPart,
    ) -> (SmallVec<[Share; 4]>, Result<(), Fault>) {
        let mut shares: SmallVec<[Share; 4]> = SmallVec::new();
        // Looked up once per shard: most batches concern few shards.
        let mut found: SmallVec<[(usize, Option<usize>); 8]> = SmallVec::new();
        let mut end = Ok(());
        for &index in which {
            let shard = tasks[index].shard;
            let known = found.iter().find(|(known, _)| *known == shard).map(|(_, at)| *at);
            let at = known.unwrap_or_else(|| {
                let plan = Arc::clone(&self.plan);
                let at = match self.sink_for(key_of(&plan, shard, part)) {
                    Ok(at) => Some(at),
                    Err(fault) => {
                        if end.is_ok() {
                            end = Err(fault);
                        }
                        None
                    }
                };
                found.push((shard, at));
                at
            });
            let Some(at) = at else { continue };
            match shares.iter_mut().find(|(known, _)| *known == at) {
                Some((_, share)) => share.push(index),
                None => shares.push((at, Which::from_slice(&[index]))),
            }
        }
        (shares, end)
    }

    /// The index of the sink for the server that has `key`.
    fn sink_for(&mut self, key: &str) -> Result<usize, Fault> {
        let address = self.route.server_of(key)?;
        let Sinks { route, plan, name, timeout, metrics, stop, open, made, .. } = self;
        let at = open.at(&address, route.topology(), || {
            *made += 1;
            Ok(Sink::open(&address, plan, name, *timeout, metrics, stop)?.numbered(*made))
        });
        at.inspect_err(|fault| {
            route.topology().learn(&address, fault);
        })
    }
}

fn is_done(answer: &CommitAnswer) -> bool {
    matches!(answer, CommitAnswer::Done { .. })
}

/// The key that decides where a part of a task is sent.
fn key_of(plan: &CommitPlan, shard: usize, part: TaskPart) -> &str {
    let streams = &plan.streams[shard];
    match part {
        TaskPart::Whole | TaskPart::Probe | TaskPart::Acknowledge => &streams.input,
        TaskPart::Add => &streams.output,
    }
}
