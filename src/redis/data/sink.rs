//! The committing side of the data plane.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use smallvec::SmallVec;

use super::{CommitPlan, Delivery, Retention};
use crate::base::{Fault, Stop, error_code, limits};
use crate::frame::{EntryId, Refused, Stored};
use crate::metrics::clock::Tick;
use crate::metrics::{Metrics, RoundTrip};
use crate::redis::control::DEAD_LETTER_FIELDS;
use crate::redis::control::Tenure;
use crate::redis::protocol::Address;
use crate::redis::protocol::connection::{Connection, Waited, text};
use crate::redis::protocol::request::Request;
use crate::redis::protocol::resp::RespHeader;
use crate::redis::topology::Streams;
use crate::redis::topology::open::Connected;

/// The commit script for tasks that store something.
const STORE: &str = concat!(
    "#!lua\nlocal IS_CHECKED, LEASE = true, 3\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/commit.lua")
);

/// The commit script for tasks that only acknowledge, which a server out of memory must not refuse.
/// Before Redis 7.0 it serves all tasks.
const PLAIN: &str = concat!(
    "local IS_CHECKED, LEASE = false, 3\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/commit.lua")
);

/// One entry to end.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The index of the input stream.
    pub shard: usize,
    /// The entry.
    pub id: EntryId,
    /// The preceding entry in the same batch whose result must be stored first.
    pub after: Option<EntryId>,
    /// The identity consumer of the group; empty if unknown.
    pub identity: &'a str,
    /// The lease under which the entry was read, if the stream has one.
    pub tenure: Option<&'a Tenure>,
    /// An earlier attempt at this task that was sent and never answered.
    pub earlier: Option<Earlier>,
    /// How to end the entry.
    pub action: Action<'a>,
}

/// What is known about an unanswered attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Anything it stored has a higher id than this.
    pub stored_after: EntryId,
    /// Whether the group was recovered since. If so, the entry is pending whether or not the
    /// attempt was carried out.
    pub is_restored: bool,
}

/// How an entry is ended.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Store the results in order.
    Store {
        /// One result, or all results of an entry with several frames.
        results: &'a [Stored],
    },
    /// Store a dead letter.
    DeadLetter {
        /// The reason, and for a frame ring the frame with its pixels.
        refused: &'a Refused,
        /// Deliveries so far.
        deliveries: u32,
        /// When it failed, in seconds since the Unix epoch.
        failed_at: f64,
    },
    /// Acknowledge only.
    Drop,
}

/// The outcome of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Stored and acknowledged.
    Done {
        /// The id of the last entry stored, if any.
        stored: Option<EntryId>,
        /// Whether the server refused to delete the input entry.
        is_kept: bool,
    },
    /// The earlier attempt had stored it.
    DoneBefore,
    /// The entry was not pending; nothing was stored.
    Fenced,
    /// Refused with this message; the entry is still pending.
    Refused(String),
    /// It was not sent.
    Unsent,
    /// It was sent, and the connection was lost before the answer.
    Unknown,
}

/// What is sent for a task: all of it, or one step if input and output are on different nodes of a
/// Cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum TaskPart {
    /// The complete script.
    Whole,
    /// An acknowledgement of a non-existent entry, to test whether it is allowed.
    Probe,
    /// Only the result.
    Add,
    /// The script without a result.
    Acknowledge,
}

/// Indexes of tasks in a batch.
pub(super) type Which = SmallVec<[usize; limits::COMMIT_BATCH_FRAMES]>;

/// A connection that ends entries.
#[derive(Debug)]
pub struct Sink {
    connection: Connection,
    plan: Arc<CommitPlan>,
    /// Digests of [`STORE`], or of its substitute, and of [`PLAIN`].
    digests: [Vec<u8>; 2],
    /// The retention passed to the script.
    retention: &'static str,
    request: Request,
    /// Unique number among the connections of its owner.
    pub(in crate::redis) number: u64,
    /// Whether the server takes no writes: close the connection once everything is answered.
    pub(super) is_left: bool,
    /// For each unanswered [`TaskPart::Add`], the number of its results.
    added: VecDeque<usize>,
    /// Number of unanswered sendings.
    unanswered: usize,
    /// Set if a request was sent while no other was in flight; used to measure the round trip.
    asked: Option<Tick>,
}

impl Connected for Sink {
    fn address(&self) -> &Address {
        self.connection.address()
    }
}

impl Sink {
    /// Connects and loads the scripts.
    ///
    /// # Errors
    /// As [`Connection::open`]; [`Fault::Refused`] if scripts may not be loaded.
    pub fn open(
        address: &Address,
        plan: &Arc<CommitPlan>,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Sink, Fault> {
        let mut connection = Connection::open(address, name, timeout, metrics, stop)?;
        let plain = load(&mut connection, PLAIN)?;
        let digests = match load(&mut connection, STORE) {
            Ok(store) => [store, plain],
            // The server does not understand the #!lua line.
            Err(Fault::Refused { message, .. }) if message.contains("compiling") => {
                [plain.clone(), plain]
            }
            Err(fault) => return Err(fault),
        };
        let retention = match plan.retention {
            Retention::Keep | Retention::TrimAcked => "keep",
            Retention::Delete if has_xackdel(&mut connection, plan)? => "xackdel",
            Retention::Delete => "xdel",
        };
        let request = connection.request();
        Ok(Sink {
            connection,
            plan: Arc::clone(plan),
            digests,
            retention,
            request,
            number: 0,
            is_left: false,
            added: VecDeque::new(),
            unanswered: 0,
            asked: None,
        })
    }

    /// The same sink with this number.
    pub(in crate::redis) fn numbered(self, number: u64) -> Sink {
        Sink { number, ..self }
    }

    /// Measured round trips to its server.
    pub(super) fn round_trip(&self) -> &Arc<RoundTrip> {
        self.connection.round_trip()
    }

    /// Waits for an answer or until `beside` is readable.
    pub(in crate::redis) fn wait(
        &mut self,
        limit: Duration,
        beside: BorrowedFd<'_>,
    ) -> Result<Waited, Fault> {
        match self.connection.wait_beside(limit, false, Some(beside))? {
            Waited::TimedOut => {
                let detail = "no answer to a commit within redis_queue.timeout";
                Err(Fault::connection(self.connection.endpoint(), detail))
            }
            waited => Ok(waited),
        }
    }

    /// Sends `part` of the given tasks.
    pub(in crate::redis) fn send(
        &mut self,
        tasks: &[Task<'_>],
        which: &[usize],
        part: TaskPart,
    ) -> Result<(), Fault> {
        self.request.clear();
        let mut payloads: SmallVec<[&[u8]; limits::COMMIT_BATCH_FRAMES]> = SmallVec::new();
        for task in which.iter().map(|&index| &tasks[index]) {
            match (task.action, part) {
                (Action::Store { results }, TaskPart::Whole | TaskPart::Add) => {
                    payloads.extend(results.iter().map(|stored| &*stored.payload));
                }
                (Action::DeadLetter { refused, .. }, TaskPart::Whole) => {
                    payloads.extend(refused.whole.as_deref());
                }
                _ => {}
            }
            self.encode(task, part);
        }
        if self.plan.wait_replicas > 0 {
            let limit_ms = limits::REPLICAS_LIMIT.as_millis();
            self.request.command(3).arg("WAIT").number(self.plan.wait_replicas).number(limit_ms);
        }
        self.asked = (self.unanswered == 0).then(Tick::now);
        self.unanswered += 1;
        self.connection.send(&self.request, &payloads)
    }

    /// Receives the answers to the oldest unanswered sending; stores each at its task's index.
    pub(super) fn receive(
        &mut self,
        which: &[usize],
        part: TaskPart,
        answers: &mut [CommitAnswer],
    ) -> Result<(), Fault> {
        for &index in which {
            answers[index] = match part {
                TaskPart::Whole | TaskPart::Acknowledge => self.script_answer(),
                TaskPart::Probe => self.plain_answer(),
                TaskPart::Add => {
                    let results = self.added.pop_front().unwrap_or(1);
                    self.plain_answers(results)
                }
            }?;
            if let Some(asked) = self.asked.take() {
                self.connection.round_trip().sample(asked.elapsed());
            }
        }
        self.unanswered -= 1;
        if self.plan.wait_replicas > 0 {
            self.connection.receive_acks(self.plan.wait_replicas)?;
        }
        Ok(())
    }

    /// Number of entries in the output stream of a shard.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn output_length(&mut self, shard: usize) -> Result<u64, Fault> {
        self.request.clear();
        self.request.command(2).arg("XLEN").arg(&self.plan.streams[shard].output);
        self.connection.send(&self.request, &[])?;
        let length = self.connection.number("XLEN")?;
        Ok(u64::try_from(length).unwrap_or(0))
    }

    /// Reads a code and the id of the last entry stored; see `commit.lua`.
    fn script_answer(&mut self) -> Result<CommitAnswer, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(RespHeader::Array(2)) => {}
            Ok(RespHeader::Error(message)) => return Ok(CommitAnswer::Refused(text(message))),
            Ok(_) => return Err(self.connection.surprised()),
            Err(trouble) => return Err(self.connection.fault(trouble)),
        }
        let code = self.connection.integer()?;
        let stored = EntryId::parse(&self.connection.small_text()?);
        match code {
            0 => Ok(CommitAnswer::Fenced),
            1 | 3 => Ok(CommitAnswer::Done { stored, is_kept: code == 3 }),
            2 => Ok(CommitAnswer::DoneBefore),
            _ => Err(self.connection.surprised()),
        }
    }

    /// Reads the answers of one task's commands. The result is the first refusal, or success.
    fn plain_answers(&mut self, count: usize) -> Result<CommitAnswer, Fault> {
        let mut first_refused = None;
        for _ in 0..count {
            let answer = self.plain_answer()?;
            if matches!(answer, CommitAnswer::Refused(_)) {
                first_refused.get_or_insert(answer);
            }
        }
        Ok(first_refused.unwrap_or(CommitAnswer::Done { stored: None, is_kept: false }))
    }

    /// Reads the answer of a single command. Anything but an error is success.
    fn plain_answer(&mut self) -> Result<CommitAnswer, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(RespHeader::Int(_)) => Ok(CommitAnswer::Done { stored: None, is_kept: false }),
            Ok(RespHeader::Bulk(len)) => {
                self.connection.pass_over(len)?;
                Ok(CommitAnswer::Done { stored: None, is_kept: false })
            }
            Ok(RespHeader::Error(message)) => Ok(CommitAnswer::Refused(text(message))),
            Ok(_) => Err(self.connection.surprised()),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    fn encode(&mut self, task: &Task<'_>, part: TaskPart) {
        let Sink { plan, digests: [store, plain], retention, request, added, .. } = self;
        let Streams { input, output, dead_letters } = &plan.streams[task.shard];
        // A repeated commit must not store a dead letter twice, so only results can be unfenced.
        let is_result = matches!(task.action, Action::Store { .. });
        let is_fenced =
            part == TaskPart::Whole && !(is_result && plan.delivery == Delivery::AtLeastOnce);
        let mut script = |target: &str, action: &str, limit: u64, results: usize, fields: usize| {
            let digest = if action == "drop" { &plain } else { &store };
            let keys = if task.tenure.is_some() { 4 } else { 2 };
            request.command(15 + keys + 2 * fields).arg("EVALSHA").arg(digest).number(keys);
            request.arg(input).arg(target);
            if let Some(Tenure { lease, stream, .. }) = task.tenure {
                request.arg(lease).arg(stream);
            }
            request.arg(&plan.group).number(task.id).arg(action);
            request.number(limit).arg(&retention);
            match task.after {
                Some(before) => request.number(before),
                None => request.arg("0"),
            };
            request.arg(if is_fenced { "1" } else { "0" });
            request.arg(task.identity);
            match task.earlier {
                Some(earlier) => request.number(earlier.stored_after),
                None => request.arg("0"),
            };
            request.arg(match task.earlier {
                Some(Earlier { is_restored: true, .. }) => "1",
                _ => "0",
            });
            request.number(plan.output_full_at).number(results);
        };
        match (part, task.action) {
            (TaskPart::Probe, _) => {
                request.command(4).arg("XACK").arg(input).arg(&plan.group).arg("0-0");
            }
            (TaskPart::Add, Action::Store { results }) => {
                added.push_back(results.len());
                results.iter().for_each(|stored| add(request, plan, output, stored));
            }
            (TaskPart::Whole, Action::Store { results }) => {
                let fields = results.iter().map(fields_of).sum();
                script(output, "store", plan.output_length_max, results.len(), fields);
                results.iter().for_each(|stored| put_result(request, stored));
            }
            (TaskPart::Whole, Action::DeadLetter { refused, deliveries, failed_at }) => {
                let [original_id, queue, reason, detail, stage, times, when] = DEAD_LETTER_FIELDS;
                let limit = plan.dead_letter_length_max;
                let Refused { reject, whole } = refused;
                let fields = DEAD_LETTER_FIELDS.len() + usize::from(whole.is_some());
                script(dead_letters, "dead", limit, 1, fields);
                if let Some(whole) = whole {
                    request.arg("data").payload(whole.len());
                }
                request.arg(original_id).number(task.id).arg(queue).arg(input);
                request.arg(reason).arg(reject.reason.code()).arg(detail).arg(&*reject.detail);
                request.arg(stage).arg(reject.stage.name()).arg(times).number(deliveries);
                request.arg(when).number(failed_at);
            }
            (TaskPart::Whole, Action::Drop) => script(output, "drop", 0, 0, 0),
            // The output is on another node. Nothing is stored here, so any key of this node will
            // do.
            (TaskPart::Acknowledge | TaskPart::Add, _) => script(input, "drop", 0, 0, 0),
        }
    }
}

/// Whether the server can acknowledge and delete in one command, and lets this account do so. This
/// is tested on an entry that does not exist. A server that has the command may still answer with
/// an error, for example a Cluster node for another node's key.
fn has_xackdel(connection: &mut Connection, plan: &CommitPlan) -> Result<bool, Fault> {
    let mut attempt = cmd("XACKDEL");
    attempt.arg(&plan.streams[0].input).arg(&plan.group).arg("IDS").arg(1).arg("0-0");
    match connection.query("XACKDEL", &attempt) {
        Ok(_) => Ok(true),
        Err(Fault::Refused { message, .. }) => {
            Ok(!message.contains("unknown command") && error_code(&message) != "NOPERM")
        }
        Err(fault) => Err(fault),
    }
}

fn load(connection: &mut Connection, script: &str) -> Result<Vec<u8>, Fault> {
    let mut request = Request::default();
    request.command(3).arg("SCRIPT").arg("LOAD").arg(script);
    connection.send(&request, &[])?;
    let Connection { reader, socket, .. } = connection;
    match reader.header(socket) {
        Ok(RespHeader::Bulk(len)) => {
            let hash = reader.bulk_small(socket, len).map(<[u8]>::to_vec);
            hash.map_err(|trouble| connection.fault(trouble))
        }
        Ok(RespHeader::Error(message)) => {
            let message = text(message);
            Err(connection.refused("SCRIPT LOAD", message))
        }
        Ok(_) => Err(connection.surprised()),
        Err(trouble) => Err(connection.fault(trouble)),
    }
}

fn add(request: &mut Request, plan: &CommitPlan, output: &str, stored: &Stored) {
    let limited = plan.output_length_max > 0;
    let fields = 2 * fields_of(stored);
    request.command(3 + fields + if limited { 3 } else { 0 }).arg("XADD").arg(output);
    if limited {
        request.arg("MAXLEN").arg("~").number(plan.output_length_max);
    }
    request.arg("*");
    put_result(request, stored);
}

/// Number of fields of a result. The same for all results of an entry, as the script assumes:
/// `traceparent` belongs to the entry.
fn fields_of(stored: &Stored) -> usize {
    1 + stored.labels.fields().count()
}

fn put_result(request: &mut Request, stored: &Stored) {
    request.arg("data").payload(stored.payload.len());
    for (name, value) in stored.labels.fields() {
        request.arg(name).arg(value);
    }
}
