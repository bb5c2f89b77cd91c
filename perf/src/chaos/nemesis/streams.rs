//! Faults of the streams and of the group.

use super::{Nemesis, Step};
use crate::Outcome;
use crate::chaos::cost::{RESTORE_MS, UNSEEN_MS};
use crate::chaos::draw::{Planned, Topology};
use crate::chaos::engines::Engine;
use crate::chaos::kind::Kind;
use crate::chaos::names::GROUP;
use crate::chaos::snapshot::{Snapshot, place};

/// Most entries that are deleted or handed out again at once.
const FEW: u64 = 12;

/// In one step, so that the group cannot advance between reading the id and setting it.
const SET_ID_SAME: &str = "
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, group in ipairs(groups) do
  local about = {}
  for index = 1, #group, 2 do
    about[group[index]] = group[index + 1]
  end
  if about.name == ARGV[1] then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], about['last-delivered-id'])
    return about['last-delivered-id']
  end
end
return false";

impl Nemesis {
    pub(super) fn change_streams(&mut self, fault: &Planned) -> Outcome<Step> {
        let (input, output) = (self.world.streams.input.clone(), self.world.streams.output.clone());
        match fault.kind {
            Kind::GroupDestroy => self.destroy_group(&input),
            Kind::GroupSetIdSame => {
                let holder = self.holder()?;
                let id: Option<String> = holder.run(&["EVAL", SET_ID_SAME, "1", &input, GROUP])?;
                Step::done(id.map_or("no group".to_owned(), |id| format!("to {id}")))
            }
            Kind::GroupSetIdBack => {
                let before = self.snapshot(&[])?;
                let reached = place(&before.last_delivered);
                let behind: Vec<_> =
                    before.input.iter().filter(|(id, _)| place(id) <= reached).collect();
                let back = 1 + fault.pick % FEW;
                let Some(at) = behind.len().checked_sub(1 + back as usize) else {
                    return Step::done("too few entries");
                };
                let id = behind[at].0.clone();
                self.set_group(&input, &id)
            }
            Kind::FlushAll => {
                let gone = self.snapshot_of(&["FLUSHALL"], true)?;
                self.input_is_gone(&gone)
            }
            Kind::DelInput => {
                let gone = self.snapshot(&["DEL", &input])?;
                self.input_is_gone(&gone)
            }
            Kind::DelOutput => {
                self.snapshot_of(&["DEL", &output], true)?;
                self.are_results_deleted = true;
                // The engines may not have restored a recently destroyed group yet.
                let recent = self.archive.now_ms().saturating_sub(RESTORE_MS);
                if let Some((at_ms, frames)) = &self.in_transit
                    && *at_ms > recent
                {
                    self.excuses.may_lose(frames.iter(), &self.archive);
                }
                // Then only the lease records what has ended, as of its last renewal.
                if self.group_destroyed_ms.is_some_and(|at_ms| at_ms > recent) {
                    let ended: Vec<String> =
                        self.archive.lock().all.iter().map(|it| it.frame.clone()).collect();
                    self.excuses.may_double(ended.iter());
                }
                Step::done("")
            }
            Kind::XdelPending => {
                let before = self.snapshot(&[])?;
                let mut some: Vec<&String> = before.pending.iter().collect();
                some.sort_by_key(|id| place(id));
                some.truncate(1 + (fault.pick % FEW) as usize);
                if some.is_empty() {
                    return Step::done("nothing is pending");
                }
                let mut command = vec!["XDEL", &input];
                command.extend(some.iter().map(|id| id.as_str()));
                let then = self.snapshot(&command)?;
                let count = some.len();
                self.excuses
                    .may_lose(then.frames(|id| some.iter().any(|it| *it == id)), &self.archive);
                Step::done(format!("{count} entries"))
            }
            _ => {
                let before = self.snapshot(&[])?;
                let keep = before.input.len() / 2;
                let then = self.snapshot(&["XTRIM", &input, "MAXLEN", &keep.to_string()])?;
                let trimmed = then.input.len().saturating_sub(keep);
                let removed = then.input[..trimmed].iter().map(|(_, frame)| frame);
                self.excuses.may_lose(removed, &self.archive);
                Step::done(format!("{trimmed} entries"))
            }
        }
    }

    /// Excuses the unfinished frames of a deleted input stream and its group.
    pub(super) fn input_is_gone(&mut self, gone: &Snapshot) -> Outcome<Step> {
        self.excuses.may_lose(gone.frames(|_| true), &self.archive);
        // An engine whose commit got no answer cannot find out whether it was executed.
        self.excuses.untold += gone.pending.len() as u64;
        self.warn_of_new_engines(gone);
        Step::done(format!("{} entries, {} pending", gone.input.len(), gone.pending.len()))
    }

    fn destroy_group(&mut self, input: &str) -> Outcome<Step> {
        if !self.engines.iter().all(Engine::is_at_work) {
            // An engine that starts without a group may process every entry of the stream again,
            // which would excuse nearly everything.
            return Ok(Step::Later);
        }
        let gone = self.snapshot(&["XGROUP", "DESTROY", input, GROUP])?;
        self.group_destroyed_ms = Some(self.archive.now_ms());
        if self.setup.engines > 1 {
            let since = self.archive.now_ms().saturating_sub(UNSEEN_MS);
            let unseen: Vec<String> = {
                let results = self.archive.lock();
                let recent = results.all.iter().rev().take_while(|it| it.at_ms >= since);
                recent.map(|stored| stored.frame.clone()).collect()
            };
            // The consumer of the output deletes what it has archived, always or sometimes.
            let is_deleted = self.setup.retention == "delete";
            if !is_deleted {
                let pending = gone.frames(|id| gone.pending.contains(id));
                let pending: Vec<String> = pending.cloned().collect();
                if self.are_results_deleted {
                    self.excuses.may_lose(pending.iter(), &self.archive);
                }
                self.in_transit = Some((self.archive.now_ms(), pending));
            } else if self.setup.delivery == "at_least_once" {
                // Every entry is delivered again, also those that an engine has in hand, without a
                // fence.
                self.excuses.may_double(gone.frames(|_| true));
            }
            self.excuses.may_double(unseen.iter());
            self.excuses.may_double(gone.frames(|id| gone.pending.contains(id)));
        }
        self.warn_of_new_engines(&gone);
        Step::done(format!("{} pending", gone.pending.len()))
    }

    /// A starting engine may not have seen the destroyed group. It then creates the group at the
    /// beginning of the stream.
    fn warn_of_new_engines(&mut self, gone: &Snapshot) {
        if self.engines.iter().any(|engine| engine.is_running() && !engine.is_at_work()) {
            self.excuses.may_double(gone.frames(|_| true));
        }
    }

    /// Sets the group's position; delivered entries after it are delivered again.
    fn set_group(&mut self, input: &str, id: &str) -> Outcome<Step> {
        let command = ["XGROUP", "SETID", input, GROUP, id];
        if self.setup.topology != Topology::Single {
            let () = self.holder()?.run(&command)?;
            return Step::done(format!("to {id}"));
        }
        let then = self.snapshot(&command)?;
        let (new, old) = (place(id), place(&then.last_delivered));
        let again: Vec<String> =
            then.frames(|id| place(id) > new && place(id) <= old).cloned().collect();
        self.excuses.may_double(again.iter());
        Step::done(format!("to {id}, {} entries again", again.len()))
    }

    /// Puts a string in place of the output stream.
    pub(super) fn replace_output(&mut self) -> Outcome<Step> {
        let output = self.world.streams.output.clone();
        let aside = format!("{output}:aside");
        let exists: bool = self.admin.insist(&["EXISTS", &output])?;
        self.admin.with(|connection| {
            let mut both = redis::pipe();
            both.atomic();
            if exists {
                both.cmd("RENAME").arg(&output).arg(&aside).ignore();
            }
            both.cmd("SET").arg(&output).arg("a string").ignore();
            both.query::<()>(connection)
        })?;
        Step::done(if exists { "" } else { "there was no output" })
    }

    pub(super) fn restore_output(&mut self) -> Outcome<Step> {
        let output = self.world.streams.output.clone();
        let aside = format!("{output}:aside");
        let exists: bool = self.admin.insist(&["EXISTS", &aside])?;
        self.admin.with(|connection| {
            let mut both = redis::pipe();
            both.atomic().cmd("DEL").arg(&output).ignore();
            if exists {
                both.cmd("RENAME").arg(&aside).arg(&output).ignore();
            }
            both.query::<()>(connection)
        })?;
        Step::done("")
    }
}
