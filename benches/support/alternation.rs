//! Comparisons on a machine with other load. The sides alternate frame by frame and are measured by
//! the CPU time of this thread. A ratio is the median over pairs of neighbouring measurements of
//! the same frame.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Minimum duration of one comparison in seconds, and minimum number of rounds.
const SECONDS: u64 = 3;
const ROUNDS_MIN: usize = 9;

/// One side: its name, and its work on the frame with the given number.
pub struct Side<'a>(pub &'static str, pub Box<dyn FnMut(usize) + 'a>);

pub fn side<'a>(name: &'static str, work: impl FnMut(usize) + 'a) -> Side<'a> {
    Side(name, Box::new(work))
}

/// CPU time of the sides of a comparison in seconds, per round.
pub struct Outcome {
    title: String,
    names: Vec<&'static str>,
    rounds: Vec<Vec<f64>>,
}

/// Runs the sides alternately over `frames` frames and prints the times. The others are compared
/// with the first side.
pub fn compare(title: String, frames: usize, mut sides: Vec<Side<'_>>) -> Outcome {
    for number in 0..frames {
        sides.iter_mut().for_each(|Side(_, work)| work(number)); // buffers grow and tables load
    }
    let count = sides.len();
    let mut rounds = Vec::new();
    let began = Instant::now();
    while rounds.len() < ROUNDS_MIN || began.elapsed() < Duration::from_secs(SECONDS) {
        let round = rounds.len();
        let mut took = vec![0.0; count];
        for step in 0..count {
            // Each round begins with another side, so that no side always follows the same one.
            let step = (step + round) % count;
            let before = thread_cpu();
            (sides[step].1)(round % frames);
            took[step] = (thread_cpu() - before).as_secs_f64();
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

    /// Prints whether `a` costs at most `most` times as much as `b`.
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
