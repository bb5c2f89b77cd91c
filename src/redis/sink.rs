//! The committing side of the data plane.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::connection::{Connection, text};
use super::request::Request;
use super::resp::Header;
use super::{Address, DEAD_LETTER_FIELDS};
use crate::base::{Fault, Reject, Stop, limits};
use crate::frame::{EntryId, Labels};
use crate::metrics::Metrics;

const SCRIPT: &str = include_str!("commit.lua");

/// How results and acknowledgements belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One script per frame, fenced by the pending entry: repeating it is harmless.
    ExactlyOnce,
    /// MULTI, XADD, XACK, EXEC: repeating it may store a result twice.
    AtLeastOnce,
}

/// What happens to an input entry after its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It stays.
    Keep,
    /// It is deleted in the same step.
    Delete,
}

/// Where things go; the same for every commit.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Input, output and dead-letter stream of each shard.
    pub streams: Vec<[String; 3]>,
    /// The consumer group.
    pub group: String,
    /// Approximate limit of an output stream; 0 for none.
    pub output_length_max: u64,
    /// Approximate limit of a dead-letter stream.
    pub dead_letter_length_max: u64,
    /// See [`Delivery`].
    pub delivery: Delivery,
    /// See [`Retention`].
    pub retention: Retention,
    /// Replicas that are to have a batch before it counts as committed; 0 does not wait.
    pub wait_replicas: u32,
}

/// One entry to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Which input stream.
    pub shard: usize,
    /// Which entry.
    pub id: EntryId,
    /// The entry before it in the same batch whose result must be stored first.
    pub after: Option<EntryId>,
    /// What to do.
    pub action: Action<'a>,
}

/// How an entry is ended.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Store the result.
    Store {
        /// The encoded message.
        payload: &'a [u8],
        /// The fields beside it.
        labels: &'a Labels,
    },
    /// Store a dead letter.
    DeadLetter {
        /// Why.
        reject: &'a Reject,
        /// Deliveries so far.
        deliveries: u32,
        /// When it failed, in seconds since the Unix epoch.
        failed_at: f64,
    },
    /// Acknowledge only.
    Drop,
}

/// What Redis said to one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Stored and acknowledged.
    Done,
    /// It was not pending any more; nothing was stored.
    Fenced,
    /// Refused with these words; the entry is still pending.
    Refused(String),
    /// It was not sent, or the connection was lost before the answer.
    Unknown,
}

/// What is sent for one task: all of it, or one half where input and output lie on different nodes
/// of a Cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Add,
    Acknowledge,
}

/// Tasks of a batch, by their place in it.
pub(super) type Which = SmallVec<[usize; limits::COMMIT_BATCH_FRAMES]>;

/// A connection that ends entries.
#[derive(Debug)]
pub struct Sink {
    connection: Connection,
    plan: Arc<Plan>,
    script_hash: Vec<u8>,
    request: Request,
}

impl Sink {
    /// Connects and loads the script.
    ///
    /// # Errors
    /// As [`Connection::open`]; [`Fault::Refused`] if scripts may not be loaded.
    pub fn open(
        address: &Address,
        plan: &Arc<Plan>,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Sink, Fault> {
        let mut connection = Connection::open(address, name, timeout, metrics, stop)?;
        let script_hash = load(&mut connection)?;
        let request = connection.request();
        Ok(Sink { connection, plan: Arc::clone(plan), script_hash, request })
    }

    /// Sends `part` of those tasks.
    pub(super) fn send(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: Part,
    ) -> Result<(), Fault> {
        self.request.clear();
        let mut payloads: SmallVec<[&[u8]; limits::COMMIT_BATCH_FRAMES]> = SmallVec::new();
        for task in which.iter().map(|&index| &tasks[index]) {
            if let (Action::Store { payload, .. }, Part::Whole | Part::Add) = (task.action, part) {
                payloads.push(payload);
            }
            encode(&mut self.request, &self.plan, &self.script_hash, task, part);
        }
        if self.plan.wait_replicas > 0 {
            let limit_ms = limits::REPLICAS_LIMIT.as_millis();
            self.request.command(3).arg("WAIT").number(self.plan.wait_replicas).number(limit_ms);
        }
        self.connection.send(&self.request, &payloads)
    }

    /// Receives the answers to what was sent last, each into its place.
    pub(super) fn receive(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: Part,
        answers: &mut [Answer],
    ) -> Result<(), Fault> {
        for &index in which {
            answers[index] = match part {
                Part::Whole if self.is_transaction(&tasks[index]) => self.transaction_answer(),
                Part::Whole => self.script_answer(),
                Part::Add => self.plain_answer(),
                Part::Acknowledge if self.plan.retention == Retention::Delete => {
                    let acknowledged = self.plain_answer()?;
                    self.plain_answer()?; // of XDEL
                    Ok(acknowledged)
                }
                Part::Acknowledge => self.plain_answer(),
            }?;
        }
        if self.plan.wait_replicas > 0 {
            self.connection.receive_acks(self.plan.wait_replicas)?;
        }
        Ok(())
    }

    /// The server.
    pub(super) fn address(&self) -> &Address {
        self.connection.address()
    }

    /// Entries in the output stream of a shard.
    ///
    /// # Errors
    /// As every call.
    pub fn output_length(&mut self, shard: usize) -> Result<u64, Fault> {
        let [_, output, _] = &self.plan.streams[shard];
        self.request.clear();
        self.request.command(2).arg("XLEN").arg(output);
        self.connection.send(&self.request, &[])?;
        let length = self.connection.number("XLEN")?;
        Ok(u64::try_from(length).unwrap_or(0))
    }

    fn is_transaction(&self, task: &Task<'_>) -> bool {
        self.plan.delivery == Delivery::AtLeastOnce && matches!(task.action, Action::Store { .. })
    }

    fn script_answer(&mut self) -> Result<Answer, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(Header::Int(1)) => Ok(Answer::Done),
            Ok(Header::Int(0)) => Ok(Answer::Fenced),
            Ok(Header::Error(message)) => Ok(Answer::Refused(text(message))),
            Ok(_) => Err(unexpected(&self.connection)),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    /// Of a command by itself: any answer that is no error is good.
    fn plain_answer(&mut self) -> Result<Answer, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(Header::Int(_)) => Ok(Answer::Done),
            Ok(Header::Bulk(len)) => self.connection.pass_over(len).map(|()| Answer::Done),
            Ok(Header::Error(message)) => Ok(Answer::Refused(text(message))),
            Ok(_) => Err(unexpected(&self.connection)),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    /// +OK, +QUEUED for each command, and the array of EXEC; or errors in place of any of them.
    fn transaction_answer(&mut self) -> Result<Answer, Fault> {
        let queued = 3 + usize::from(self.plan.retention == Retention::Delete);
        let mut refusal = None;
        for _ in 0..queued {
            let Connection { reader, socket, .. } = &mut self.connection;
            match reader.header(socket) {
                Ok(Header::Simple(_)) => {}
                Ok(Header::Error(message)) => refusal = refusal.or(Some(text(message))),
                Ok(_) => return Err(unexpected(&self.connection)),
                Err(trouble) => return Err(self.connection.fault(trouble)),
            }
        }
        let Connection { reader, socket, .. } = &mut self.connection;
        let count = match reader.header(socket) {
            Ok(Header::Array(count)) => count,
            Ok(Header::Error(message)) => {
                let message = text(message);
                return Ok(Answer::Refused(refusal.unwrap_or(message)));
            }
            Ok(_) => return Err(unexpected(&self.connection)),
            Err(trouble) => return Err(self.connection.fault(trouble)),
        };
        let mut failed = false;
        for _ in 0..count {
            let Connection { reader, socket, .. } = &mut self.connection;
            failed |=
                reader.skip_value(socket).map_err(|trouble| self.connection.fault(trouble))?;
        }
        Ok(if failed {
            Answer::Refused("a command of the transaction failed".into())
        } else {
            Answer::Done
        })
    }
}

fn unexpected(connection: &Connection) -> Fault {
    Fault::connection(connection.endpoint(), "protocol error: unexpected kind of answer")
}

fn load(connection: &mut Connection) -> Result<Vec<u8>, Fault> {
    let mut request = Request::default();
    request.command(3).arg("SCRIPT").arg("LOAD").arg(SCRIPT);
    connection.send(&request, &[])?;
    let Connection { reader, socket, .. } = connection;
    match reader.header(socket) {
        Ok(Header::Bulk(len)) => {
            let hash = reader.bulk_small(socket, len).map(<[u8]>::to_vec);
            hash.map_err(|trouble| connection.fault(trouble))
        }
        Ok(Header::Error(message)) => {
            let message = text(message);
            Err(connection.refused("SCRIPT LOAD", message))
        }
        Ok(_) => Err(unexpected(connection)),
        Err(trouble) => Err(connection.fault(trouble)),
    }
}

fn encode(request: &mut Request, plan: &Plan, script_hash: &[u8], task: &Task<'_>, part: Part) {
    let [input, output, dead_letters] = &plan.streams[task.shard];
    let delete = plan.retention == Retention::Delete;
    if part == Part::Acknowledge {
        return acknowledge(request, plan, task);
    }
    let mut script = |target: &str, action: &str, limit: u64, fields: usize| {
        request
            .command(11 + 2 * fields)
            .arg("EVALSHA")
            .arg(script_hash)
            .arg("2")
            .arg(input)
            .arg(target)
            .arg(&plan.group)
            .number(task.id)
            .arg(action)
            .number(limit)
            .arg(if delete { "1" } else { "0" });
        match task.after {
            Some(before) => request.number(before),
            None => request.arg("0"),
        };
    };
    match task.action {
        Action::Store { payload, labels } if part == Part::Add => {
            add(request, plan, output, payload, labels);
        }
        Action::Store { payload, labels } if plan.delivery == Delivery::ExactlyOnce => {
            script(output, "store", plan.output_length_max, 1 + labels.fields().count());
            put_result(request, payload, labels);
        }
        Action::Store { payload, labels } => {
            request.multi();
            add(request, plan, output, payload, labels);
            acknowledge(request, plan, task);
            request.exec();
        }
        Action::DeadLetter { reject, deliveries, failed_at } => {
            let [original_id, queue, reason, detail, stage, times, when] = DEAD_LETTER_FIELDS;
            script(dead_letters, "dead", plan.dead_letter_length_max, DEAD_LETTER_FIELDS.len());
            request.arg(original_id).number(task.id).arg(queue).arg(input);
            request.arg(reason).arg(reject.reason.code()).arg(detail).arg(&*reject.detail);
            request.arg(stage).arg(reject.stage.name()).arg(times).number(deliveries);
            request.arg(when).number(failed_at);
        }
        Action::Drop => script(output, "drop", 0, 0),
    }
}

fn add(request: &mut Request, plan: &Plan, output: &str, payload: &[u8], labels: &Labels) {
    let limited = plan.output_length_max > 0;
    let fields = 2 * (1 + labels.fields().count());
    request.command(3 + fields + if limited { 3 } else { 0 }).arg("XADD").arg(output);
    if limited {
        request.arg("MAXLEN").arg("~").number(plan.output_length_max);
    }
    request.arg("*");
    put_result(request, payload, labels);
}

fn acknowledge(request: &mut Request, plan: &Plan, task: &Task<'_>) {
    let [input, ..] = &plan.streams[task.shard];
    request.command(4).arg("XACK").arg(input).arg(&plan.group).number(task.id);
    if plan.retention == Retention::Delete {
        request.command(3).arg("XDEL").arg(input).number(task.id);
    }
}

fn put_result(request: &mut Request, payload: &[u8], labels: &Labels) {
    request.arg("data").payload(payload.len());
    for (name, value) in labels.fields() {
        request.arg(name).arg(value);
    }
}
