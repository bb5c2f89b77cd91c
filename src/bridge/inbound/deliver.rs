//! Stores messages in Redis and evaluates the answers.

use super::{HeldPartition, Inbound};
use crate::base::Fault;
use crate::redis::{Placed, PlacedBatch};

impl Inbound {
    /// Stores the messages taken.
    pub(super) fn deliver(&mut self) -> Result<(), Fault> {
        let queue = &self.config.redis_queue;
        let mut batches = Vec::new();
        for (number, held) in &self.held {
            for (shard, entries) in held.taken.iter().enumerate() {
                let expected = held.places[shard];
                if entries.is_empty() && expected >= Some(held.next) {
                    continue;
                }
                let batch = PlacedBatch {
                    keys: &self.keys[shard],
                    partition: *number,
                    expected,
                    behind: held.next.max(expected.unwrap_or(0)),
                    entries,
                };
                batches.push((shard, batch));
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        let only: Vec<PlacedBatch<'_>> = batches.iter().map(|(_, batch)| batch.clone()).collect();
        let answers =
            self.control.add_placed(&only, queue.dead_letter_max_length, queue.wait_replicas);
        let whose: Vec<(i32, usize)> =
            batches.iter().map(|(shard, batch)| (batch.partition, *shard)).collect();
        let answers = match answers {
            Ok(answers) => answers,
            Err(fault) => {
                self.held.values_mut().for_each(|held| held.is_unsure = true);
                return Err(fault);
            }
        };
        let mut end = Ok(());
        for ((number, shard), answer) in whose.into_iter().zip(answers) {
            let answered = match answer {
                Ok(placed) => self.settle(number, shard, placed),
                Err(fault) => Err(fault),
            };
            end = end.and(answered);
        }
        for held in self.held.values_mut().filter(|held| !held.has_taken()) {
            self.status.moved(0, std::mem::take(&mut held.bytes));
            held.is_unsure = false;
        }
        end
    }

    /// Records the result of a batch.
    fn settle(&mut self, number: i32, shard: usize, placed: Placed) -> Result<(), Fault> {
        let Some(held) = self.held.get_mut(&number) else { return Ok(()) };
        let mut stored = |held: &mut HeldPartition, count: usize, place: Option<i64>| {
            let entries = held.taken[shard].drain(..count);
            let frames = entries.filter(|entry| !entry.is_dead_letter).count() as u64;
            held.places[shard] = place;
            self.backlog += frames;
            self.status.moved(frames, 0);
        };
        let all = held.taken[shard].len();
        match placed {
            Placed::All => {
                let behind = held.next.max(held.places[shard].unwrap_or(0));
                stored(held, all, Some(behind));
                Ok(())
            }
            Placed::Some(count, place, fault) => {
                stored(held, count, place);
                Err(fault)
            }
            // The stream was emptied and the places with it. This bridge still knows its place.
            Placed::Elsewhere(None) => {
                tracing::warn!(
                    "kafka-to-redis: the stored positions in {} are gone; the bridge continues \
                     from the position that it knows",
                    self.keys[shard].places
                );
                held.places[shard] = None;
                Ok(())
            }
            Placed::Elsewhere(Some(place)) => {
                let count = held.taken[shard].iter().take_while(|it| it.after <= place).count();
                let reached = held.taken[shard].iter().take(count).next_back();
                let is_ours = place == held.next || reached.is_some_and(|it| it.after == place);
                if held.is_unsure && is_ours {
                    stored(held, count, Some(place));
                    return Ok(());
                }
                self.status.count_fenced();
                tracing::warn!(
                    "kafka-to-redis: {}/{number} is at offset {place} in {}, which this bridge did \
                     not store: another bridge is running, or Redis has lost its latest writes; it \
                     continues from there",
                    self.config.kafka.input_topic,
                    self.keys[shard].places
                );
                self.read_anew();
                Ok(())
            }
        }
    }
}
