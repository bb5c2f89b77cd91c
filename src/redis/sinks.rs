//! Commits to the right servers: one batch may concern several nodes of a Cluster.
//!
//! All nodes concerned are sent their share before any answer is waited for, so that they work at
//! the same time. Where input and output lie in different slots, which only `at_least_once` may
//! have, a result is added first and its entry acknowledged after that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::open::{Connected, Open};
use super::route::{HOPS_MAX, Next, is_sent_on};
use super::sink::{Part, Which};
use super::{
    Action, Answer, Control, DEAD_LETTER_FIELDS, Plan, Route, Sink, Task, Topology, slot_of,
};
use crate::base::{Fault, Stop, error_code};
use crate::frame::EntryId;
use crate::metrics::Metrics;

/// A [`Sink`] for every server concerned, opened when it is needed.
#[derive(Debug)]
pub struct Sinks {
    route: Route,
    plan: Arc<Plan>,
    name: String,
    timeout: Duration,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Open<Sink>,
    made: u64,
    /// For the rare steps between two nodes.
    control: Option<Control>,
    /// Of the batch, what has been added and not yet acknowledged: not to be added again.
    added: HashSet<(usize, EntryId)>,
}

/// The tasks of a batch that one of the open sinks is concerned with.
type Share = (usize, Which);

impl Sinks {
    /// For the streams of `plan`; nothing is connected yet.
    pub fn new(
        topology: &Topology,
        plan: &Arc<Plan>,
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
        shards.iter().try_for_each(|&shard| self.sink_for(&plan.streams[shard][0]).map(|_| ()))
    }

    /// Whether a result is stored in another step than its entry is acknowledged: a script reaches
    /// keys of one slot only.
    pub fn is_apart(&self) -> bool {
        let is_apart = |[input, stored @ ..]: &[String; 3]| {
            stored.iter().any(|key| slot_of(key) != slot_of(input))
        };
        self.route.topology().is_cluster() && self.plan.streams.iter().any(is_apart)
    }

    /// Connections made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Has the script loaded again, after a server has forgotten it: every connection is made anew.
    pub fn reload(&mut self) {
        self.open.clear();
    }

    /// Entries in the output stream of a shard.
    ///
    /// # Errors
    /// As every call.
    pub fn output_length(&mut self, shard: usize) -> Result<u64, Fault> {
        let plan = Arc::clone(&self.plan);
        let [_, output, _] = &plan.streams[shard];
        let mut hops = 0;
        loop {
            let at = self.sink_for(output)?;
            let fault = match self.open[at].output_length(shard) {
                Ok(length) => return Ok(length),
                Err(fault) => fault,
            };
            let address = self.open[at].address().clone();
            hops += 1;
            if !self.route.heed(output, &address, &fault) {
                self.open.close(at);
            } else if hops <= HOPS_MAX {
                continue;
            }
            return Err(fault);
        }
    }

    /// Ends all tasks; `answers` gets one answer per task, in order.
    ///
    /// # Errors
    /// The first server that could not be reached or was lost; of its tasks the answer is
    /// [`Answer::Unsent`] or [`Answer::Unknown`], all others have theirs.
    pub fn commit(&mut self, tasks: &[Task<'_>], answers: &mut Vec<Answer>) -> Result<(), Fault> {
        answers.clear();
        answers.resize(tasks.len(), Answer::Unsent);
        self.open.tidy();
        if self.is_apart() {
            return self.commit_apart(tasks, answers);
        }
        self.follow(tasks, (0..tasks.len()).collect(), Part::Whole, answers)
    }

    /// Sees whether acknowledging is allowed, adds, then acknowledges what was added. What is added
    /// and could not be acknowledged is only acknowledged at the next attempt.
    fn commit_apart(&mut self, tasks: &[Task<'_>], answers: &mut [Answer]) -> Result<(), Fault> {
        let key = |task: &Task<'_>| (task.shard, task.id);
        // What has ended otherwise will not come again, unless as another entry.
        self.added.retain(|added| tasks.iter().any(|task| key(task) == *added));
        let all: Which = (0..tasks.len()).collect();
        let mut end = self.follow(tasks, all, Part::Probe, answers);
        let may_end: Which = (0..tasks.len()).filter(|&index| is_done(&answers[index])).collect();
        may_end.iter().for_each(|&index| answers[index] = Answer::Unsent);
        let is_new_result = |&index: &usize| {
            let task = &tasks[index];
            matches!(task.action, Action::Store { .. }) && !self.added.contains(&key(task))
        };
        let results: Which = may_end.iter().copied().filter(is_new_result).collect();
        end = end.and(self.follow(tasks, results, Part::Add, answers));
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
                        answers[index] = Answer::Refused(message);
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
                answers[index] = Answer::Unsent;
                ready.push(index);
            }
        }
        end = end.and(self.follow(tasks, ready.clone(), Part::Acknowledge, answers));
        for &index in &ready {
            if is_done(&answers[index]) || answers[index] == Answer::DoneBefore {
                self.added.remove(&key(&tasks[index]));
            }
        }
        end
    }

    fn copy_dead_letter(&mut self, task: &Task<'_>) -> Result<(), Fault> {
        let Action::DeadLetter { reject, deliveries, failed_at } = task.action else {
            return Ok(());
        };
        let plan = Arc::clone(&self.plan);
        let [input, _, dead_letters] = &plan.streams[task.shard];
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
            None => Control::new(self.route.topology(), self.timeout)?,
        };
        let limit = plan.dead_letter_length_max;
        let copied = control.copy((input, task.id), dead_letters, &added, limit);
        self.control = Some(control);
        copied
    }

    /// Round trips to every server concerned, until no node sends a task on to another one.
    fn follow(
        &mut self,
        tasks: &[Task<'_>],
        mut which: Which,
        part: Part,
        answers: &mut [Answer],
    ) -> Result<(), Fault> {
        let mut end = self.round(tasks, &which, part, answers);
        for _ in 0..HOPS_MAX {
            which.retain(|index| match &answers[*index] {
                Answer::Refused(message) => is_sent_on(error_code(message)),
                _ => false,
            });
            if which.is_empty() {
                break;
            }
            which.iter().for_each(|&index| answers[index] = Answer::Unsent);
            end = end.and(self.round(tasks, &which, part, answers));
        }
        end
    }

    /// One round trip to every server concerned.
    fn round(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: Part,
        answers: &mut [Answer],
    ) -> Result<(), Fault> {
        let (shares, mut end) = self.shares(tasks, which, part);
        let mut lost: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, share) in &shares {
            // Part of it may have arrived, even if sending failed.
            share.iter().for_each(|&index| answers[index] = Answer::Unknown);
            if let Err(fault) = self.open[*at].send(tasks, share, part) {
                self.route.topology().learn(self.open[*at].address(), &fault);
                lost.push(*at);
                end = end.and(Err(fault));
            }
        }
        for (at, share) in &shares {
            if lost.contains(at) {
                continue;
            }
            if let Err(fault) = self.open[*at].receive(share, part, answers) {
                self.route.topology().learn(self.open[*at].address(), &fault);
                lost.push(*at);
                end = end.and(Err(fault));
            }
            for &index in share {
                let Answer::Refused(message) = &answers[index] else { continue };
                let key = key_of(&self.plan, tasks[index].shard, part);
                let next = self.route.refused(key, self.open[*at].address(), message);
                if next == Next::Leave && !lost.contains(at) {
                    lost.push(*at);
                }
            }
        }
        lost.sort_unstable();
        for at in lost.into_iter().rev() {
            self.open.close(at);
        }
        end
    }

    /// Which open sink has which of the tasks, and the first fault met in looking for it.
    fn shares(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: Part,
    ) -> (SmallVec<[Share; 4]>, Result<(), Fault>) {
        let mut shares: SmallVec<[Share; 4]> = SmallVec::new();
        // Looked up once per shard: most batches have frames of few.
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

    /// The sink of the server that has `key`, by its place among the open ones.
    fn sink_for(&mut self, key: &str) -> Result<usize, Fault> {
        let address = self.route.server_of(key)?;
        let Sinks { route, plan, name, timeout, metrics, stop, open, made, .. } = self;
        let at = open.at(&address, route.topology(), || {
            *made += 1;
            Sink::open(&address, plan, name, *timeout, metrics, stop)
        });
        at.inspect_err(|fault| {
            route.topology().learn(&address, fault);
        })
    }
}

fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done { .. })
}

/// The key that decides where a part of a task goes.
fn key_of(plan: &Plan, shard: usize, part: Part) -> &str {
    let [input, output, _] = &plan.streams[shard];
    match part {
        Part::Whole | Part::Probe | Part::Acknowledge => input,
        Part::Add => output,
    }
}
