//! Faults of engine processes and of their connections.

use framepress_proxy::Direction;
use rustix::process::Signal;

use super::{Nemesis, Step};
use crate::Outcome;
use crate::chaos::draw::{Planned, Topology};
use crate::chaos::engines::INSIDE_A_BULK;
use crate::chaos::kind::Kind;
use crate::chaos::names::GROUP;

/// Steps of a clock, in seconds.
pub(super) const CLOCK_STEPS: [i64; 6] = [-3_600, -60, -5, 5, 60, 3_600];

impl Nemesis {
    pub(super) fn kill_engine(&mut self, index: usize) -> Outcome<Step> {
        let Some(ended) = self.engines[index].kill()? else {
            return Step::done("it was not there");
        };
        self.ended.push(ended);
        let hit = self.count_hits(index);
        Step::done(format!("engine {index}, {hit} entries in hand"))
    }

    pub(super) fn term_engine(&mut self, index: usize) -> Outcome<Step> {
        let engine = &mut self.engines[index];
        if !engine.is_running() || engine.is_ending() {
            return Step::done("it was not there");
        }
        engine.signal(Signal::TERM)?;
        Step::done(format!("engine {index}"))
    }

    pub(super) fn stop_engine(&mut self, index: usize) -> Outcome<Step> {
        let engine = &mut self.engines[index];
        // An ending engine must end in time, which it cannot while stopped.
        if !engine.is_running() || engine.is_ending() {
            return Step::done("it was not there");
        }
        engine.signal(Signal::STOP)?;
        engine.is_stopped = true;
        if self.setup.engines > 1 {
            // Others claim the entries it has in hand, as if it had died.
            self.count_hits(index);
        }
        Step::done(format!("engine {index}"))
    }

    pub(super) fn continue_engine(&mut self, index: usize) -> Outcome<Step> {
        let engine = &mut self.engines[index];
        engine.signal(Signal::CONT)?;
        engine.is_stopped = false;
        Step::done("")
    }

    /// Counts the entries that the consumer of an engine has in hand, and returns the number.
    fn count_hits(&mut self, index: usize) -> usize {
        let consumer = format!("engine-{index}");
        let input = self.world.streams.input.clone();
        let Ok(link) = self.holder() else { return 0 };
        let words = ["XPENDING", &input, GROUP, "-", "+", "1000000"];
        // Without a group, the consumer has nothing in hand.
        let mut entries: Vec<(String, String, u64, u64)> = link.insist(&words).unwrap_or_default();
        // Each reader of an engine is a separate consumer.
        entries.retain(|(_, owner, ..)| owner.starts_with(&consumer));
        for (id, ..) in &entries {
            *self.excuses.hits.entry(id.clone()).or_default() += 1;
        }
        entries.len()
    }

    /// Starts an engine that is not running.
    pub fn start_engine(&mut self, index: usize) -> Outcome<Step> {
        self.look()?;
        if self.spoiling > 0 {
            return Ok(Step::Later);
        }
        if self.engines[index].is_running() {
            // It is still ending, or it already runs again.
            let is_new = !self.engines[index].is_ending();
            return Ok(if is_new { Step::Done(String::new()) } else { Step::Later });
        }
        if self.setup.topology == Topology::Single {
            let now = self.snapshot(&[])?;
            if !now.has_group {
                // It creates the group, which then begins at the start of the stream.
                self.excuses.may_double(now.frames(|_| true));
            }
        }
        self.engines[index].start()?;
        Step::done("")
    }

    pub(super) fn step_clock_of_engine(&mut self, fault: &Planned) -> Outcome<Step> {
        let step = CLOCK_STEPS[fault.pick as usize % CLOCK_STEPS.len()];
        match &self.engines[fault.engine].clock {
            Some(clock) => clock.step(step)?,
            None => return Step::done("it has no clock of its own"),
        }
        Step::done(format!("engine {}, {step:+} s", fault.engine))
    }

    pub(super) fn right_clock_of_engine(&mut self, index: usize) -> Outcome<Step> {
        if let Some(clock) = &self.engines[index].clock {
            clock.step(0)?;
        }
        Step::done("")
    }

    /// Disturbs the connections of an engine through its proxy.
    pub(super) fn disturb(&mut self, fault: &Planned) -> Outcome<Step> {
        let Some(proxy) = &self.engines[fault.engine].proxy else {
            return Step::done("it has no proxy");
        };
        match fault.kind {
            Kind::Cut => proxy.cut(),
            Kind::CutInBulk => proxy.reset_inside(Direction::Answer, INSIDE_A_BULK),
            Kind::CutInRequest => proxy.reset_inside(Direction::Request, INSIDE_A_BULK),
            _ => proxy.stall(true),
        }
        Step::done(format!("engine {}", fault.engine))
    }

    pub(super) fn calm(&mut self, fault: &Planned) -> Outcome<Step> {
        if let Some(proxy) = &self.engines[fault.engine].proxy {
            proxy.stall(false);
        }
        Step::done("")
    }
}
