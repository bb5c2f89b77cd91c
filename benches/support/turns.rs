//! Comparisons on a machine that does other things as well: the sides take turns frame by frame,
//! what counts is the CPU time of this thread, and a ratio is the median over pairs of neighbouring
//! turns on the same frame.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long one comparison goes on, and at least how many turns each side has.
const SECONDS: u64 = 3;
const ROUNDS_MIN: usize = 9;

/// One side: its name, and what it does with the frame of that number.
pub struct Side<'a>(pub &'static str, pub Box<dyn FnMut(usize) + 'a>);

pub fn side<'a>(name: &'static str, work: impl FnMut(usize) + 'a) -> Side<'a> {
    Side(name, Box::new(work))
}

/// What the sides of one comparison took, in seconds, round by round.
pub struct Outcome {
    title: String,
    names: Vec<&'static str>,
    rounds: Vec<Vec<f64>>,
}

/// Lets the sides take turns over `frames` frames and prints what they took. The first side is the
/// one the others are compared with.
pub fn compare(title: String, frames: usize, mut sides: Vec<Side<'_>>) -> Outcome {
    for number in 0..frames {
        sides.iter_mut().for_each(|Side(_, work)| work(number)); // buffers grow, tables load
    }
    let count = sides.len();
    let mut rounds = Vec::new();
    let began = Instant::now();
    while rounds.len() < ROUNDS_MIN || began.elapsed() < Duration::from_secs(SECONDS) {
        let round = rounds.len();
        let mut took = vec![0.0; count];
        for turn in 0..count {
            // Each round begins with another side, so that no side always follows the same one.
            let turn = (turn + round) % count;
            let before = thread_cpu();
            (sides[turn].1)(round % frames);
            took[turn] = (thread_cpu() - before).as_secs_f64();
        }
        rounds.push(took);
    }
    let names = sides.iter().map(|Side(name, _)| *name).collect();
    let outcome = Outcome { title, names, rounds };
    outcome.print();
    outcome
}

impl Outcome {
    /// The median of `a / b` over the rounds.
    pub fn ratio(&self, a: &str, b: &str) -> f64 {
        let [a, b] = [a, b].map(|name| {
            self.names.iter().position(|known| *known == name).expect("a side of the comparison")
        });
        median(self.rounds.iter().map(|round| round[a] / round[b]).collect())
    }

    /// Says whether `a` costs at most `most` times what `b` does.
    pub fn goal(&self, a: &str, b: &str, most: f64) {
        let ratio = self.ratio(a, b);
        let verdict = if ratio <= most { "reached" } else { "MISSED" };
        println!("  goal: {a} / {b} <= {most:.3}: {ratio:.3}, {verdict}");
    }

    fn print(&self) {
        println!("\n{} ({} rounds, medians of CPU time)", self.title, self.rounds.len());
        for (index, name) in self.names.iter().enumerate() {
            let took = median(self.rounds.iter().map(|round| round[index]).collect());
            let ratio = self.ratio(name, self.names[0]);
            println!("  {name:<44} {:>9.3} ms {ratio:>8.3}", took * 1e3);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
