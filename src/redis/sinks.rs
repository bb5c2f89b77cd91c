//! Commits to the right servers: one batch may concern several nodes of a Cluster.
//!
//! All nodes concerned are sent their share before any answer is waited for, so that they work at
//! the same time. Where input and output lie on different nodes, which only `at_least_once` may
//! have, a result is added first and its entry acknowledged after that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::control::HOPS_MAX;
use super::sink::{Part, Which};
use super::slot::slot_of;
use super::topology::is_no_primary;
use super::{
    Action, Address, Answer, Control, DEAD_LETTER_FIELDS, Delivery, Plan, Sink, Task, Topology,
};
use crate::base::{Fault, Stop, error_code};
use crate::frame::EntryId;
use crate::metrics::Metrics;

/// A [`Sink`] for every server concerned, opened when it is needed.
#[derive(Debug)]
pub struct Sinks {
    topology: Topology,
    plan: Arc<Plan>,
    name: String,
    timeout: Duration,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// One for each server that has been committed to.
    open: Vec<Sink>,
    made: u64,
    /// Where the very next attempt at a slot goes instead.
    sent_on: Vec<(u16, Address)>,
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
            topology: topology.clone(),
            plan: Arc::clone(plan),
            name,
            timeout,
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
            open: Vec::new(),
            made: 0,
            sent_on: Vec::new(),
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
            self.heed(slot_of(output), at, &fault);
            hops += 1;
            if !is_sent_on(fault.redis_code()) {
                self.open.swap_remove(at);
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
    /// [`Answer::Unknown`], all others have theirs.
    pub fn commit(&mut self, tasks: &[Task<'_>], answers: &mut Vec<Answer>) -> Result<(), Fault> {
        answers.clear();
        answers.resize(tasks.len(), Answer::Unknown);
        if self.topology.is_cluster() && self.plan.delivery == Delivery::AtLeastOnce {
            return self.commit_apart(tasks, answers);
        }
        self.follow(tasks, (0..tasks.len()).collect(), Part::Whole, answers)
    }

    /// Adds, then acknowledges what was added. What is added and could not be acknowledged is only
    /// acknowledged at the next attempt.
    fn commit_apart(&mut self, tasks: &[Task<'_>], answers: &mut [Answer]) -> Result<(), Fault> {
        let key = |task: &Task<'_>| (task.shard, task.id);
        let is_new_result = |&index: &usize| {
            let task = &tasks[index];
            matches!(task.action, Action::Store { .. }) && !self.added.contains(&key(task))
        };
        let results: Which = (0..tasks.len()).filter(is_new_result).collect();
        let mut end = self.follow(tasks, results, Part::Add, answers);
        let mut ready = Which::new();
        for (index, task) in tasks.iter().enumerate() {
            let added = match task.action {
                _ if self.added.contains(&key(task)) => true,
                Action::Store { .. } => answers[index] == Answer::Done,
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
            if added {
                self.added.insert(key(task));
                answers[index] = Answer::Unknown;
                ready.push(index);
            }
        }
        end = end.and(self.follow(tasks, ready.clone(), Part::Acknowledge, answers));
        for &index in &ready {
            if matches!(answers[index], Answer::Done | Answer::Fenced) {
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
            None => Control::new(&self.topology, self.timeout)?,
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
                Answer::Refused(message) => is_sent_on(Some(error_code(message))),
                _ => false,
            });
            if which.is_empty() {
                break;
            }
            which.iter().for_each(|&index| answers[index] = Answer::Unknown);
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
            if let Err(fault) = self.open[*at].send(tasks, share, part) {
                self.topology.learn(self.open[*at].address(), &fault);
                lost.push(*at);
                end = end.and(Err(fault));
            }
        }
        for (at, share) in &shares {
            if lost.contains(at) {
                continue;
            }
            if let Err(fault) = self.open[*at].receive(tasks, share, part, answers) {
                self.topology.learn(self.open[*at].address(), &fault);
                lost.push(*at);
                end = end.and(Err(fault));
            }
            for &index in share {
                let Answer::Refused(message) = &answers[index] else { continue };
                let slot = slot_of(self.key_of(&tasks[index], part));
                if self.heed_refusal(slot, *at, message) && !lost.contains(at) {
                    lost.push(*at);
                }
            }
        }
        lost.sort_unstable();
        for at in lost.into_iter().rev() {
            self.open.swap_remove(at);
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

    fn key_of(&self, task: &Task<'_>, part: Part) -> &str {
        key_of(&self.plan, task.shard, part)
    }

    /// The sink of the server that has `key`, by its place among the open ones.
    fn sink_for(&mut self, key: &str) -> Result<usize, Fault> {
        let sent_on = match self.sent_on.is_empty() {
            true => None,
            false => {
                let slot = slot_of(key);
                let at = self.sent_on.iter().position(|(known, _)| *known == slot);
                at.map(|at| self.sent_on.swap_remove(at).1)
            }
        };
        let address = match sent_on {
            Some(address) => address,
            None => self.topology.primary_for(key)?,
        };
        if let Some(at) = self.open.iter().position(|sink| sink.address().is_same(&address)) {
            return Ok(at);
        }
        let Sinks { plan, name, timeout, metrics, stop, .. } = self;
        match Sink::open(&address, plan, name, *timeout, metrics, stop) {
            Ok(sink) => {
                if !self.topology.is_cluster() {
                    self.open.clear(); // it takes the place of another server
                }
                self.open.push(sink);
                self.made += 1;
                Ok(self.open.len() - 1)
            }
            Err(fault) => {
                self.topology.learn(&address, &fault);
                Err(fault)
            }
        }
    }

    fn heed(&mut self, slot: u16, at: usize, fault: &Fault) {
        if let Some(address) = self.topology.learn(self.open[at].address(), fault) {
            self.sent_on.push((slot, address));
        }
    }

    /// Takes note of a refusal; says whether this server is to be left.
    fn heed_refusal(&mut self, slot: u16, at: usize, message: &str) -> bool {
        let next = self.topology.refused(self.open[at].address(), message);
        if let Some(address) = next
            && !self.sent_on.iter().any(|(known, _)| *known == slot)
        {
            self.sent_on.push((slot, address));
        }
        is_no_primary(error_code(message))
    }
}

/// Whether a refusal only says where to go instead.
fn is_sent_on(code: Option<&str>) -> bool {
    matches!(code, Some("MOVED" | "ASK"))
}

/// The key that decides where a part of a task goes.
fn key_of(plan: &Plan, shard: usize, part: Part) -> &str {
    let [input, output, _] = &plan.streams[shard];
    match part {
        Part::Whole | Part::Acknowledge => input,
        Part::Add => output,
    }
}
