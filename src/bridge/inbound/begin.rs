//! Where to start reading partitions: at the stored place, or without one, at the offset of the old
//! processor.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::super::client::{self, ANSWER_LIMIT};
use super::{HeldPartition, Inbound};
use crate::base::Fault;
use crate::config::Begin;
use crate::redis::{Placed, PlacedBatch};

impl Inbound {
    /// Stores the present ends of all partitions as the goal, if the bridge should stop there.
    pub(super) fn set_goal(&mut self) -> Result<(), Fault> {
        if self.goal.is_none() {
            return Ok(());
        }
        let topic = self.topic().to_owned();
        let ends = self.partitions()?.into_iter().map(|number| {
            let (_, end) = self.range(&topic, number)?;
            Ok((number, end))
        });
        self.goal = Some(ends.collect::<Result<_, Fault>>()?);
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<i32>, Fault> {
        client::topic(&self.consumer, self.topic()).map_err(|fault| self.explained(fault))
    }

    /// The first available offset and the one after the last.
    fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64), Fault> {
        self.consumer.fetch_watermarks(topic, partition, ANSWER_LIMIT).map_err(|error| {
            self.fault(format!("asking for the range of {topic}/{partition}"), &error)
        })
    }

    /// Begins to read the wanted partitions, each at its place.
    pub(super) fn grant(&mut self) -> Result<(), Fault> {
        let wanted = self.wanted.clone().unwrap_or_default();
        let topic = self.topic().to_owned();
        let mut places = Vec::with_capacity(self.keys.len());
        for keys in &self.keys {
            places.push(self.control.places(keys, &wanted)?);
        }
        let is_new = |index: usize| places.iter().all(|places| places[index].is_none());
        let new: Vec<i32> =
            (0..wanted.len()).filter(|index| is_new(*index)).map(|index| wanted[index]).collect();
        let old = self.old_places(&topic, &new)?;
        let is_later = !new.is_empty() && self.has_any_place()?;
        let mut list = TopicPartitionList::new();
        let mut held = BTreeMap::new();
        for (index, number) in wanted.iter().enumerate() {
            self.status.beat();
            let stored: Vec<Option<i64>> = places.iter().map(|places| places[index]).collect();
            let partition =
                self.begun(&topic, *number, stored, (old.get(number).copied(), is_later))?;
            list.add_partition_offset(&topic, *number, Offset::Offset(partition.next))
                .map_err(|error| client::fault("making a list of partitions", &error))?;
            held.insert(*number, partition);
        }
        self.consumer
            .assign(&list)
            .map_err(|error| client::fault(format!("reading partitions of {topic}"), &error))?;
        for (number, partition) in &held {
            tracing::info!("kafka-to-redis: {topic}/{number} from offset {}", partition.next);
        }
        self.held = held;
        self.wanted = None;
        self.is_member = true;
        self.is_paused = None;
        self.looked = None;
        Ok(())
    }

    /// A partition with a place in every stream. A missing place is stored at once, so that another
    /// start does not choose a different one.
    fn begun(
        &mut self,
        topic: &str,
        number: i32,
        mut places: Vec<Option<i64>>,
        (old, is_later): (Option<i64>, bool),
    ) -> Result<HeldPartition, Fault> {
        let (first, end) = self.range(topic, number)?;
        let stored = places.iter().flatten().min().copied();
        let mut gone = 0;
        let next = match stored {
            None => match self.config.kafka.begin {
                Begin::Earliest => first,
                // A partition that was added to the topic after the first start.
                Begin::Latest if is_later => first,
                Begin::Latest => end,
                Begin::Group => old.map_or(first, |place| place.clamp(first, end)),
            },
            Some(place) if place < first => {
                gone = u64::try_from(first - place).unwrap_or(0);
                tracing::warn!(
                    "kafka-to-redis: {topic}/{number}: up to {gone} messages from offset {place} on are \
                     gone; Kafka deleted them before they were read (retention.ms, retention.bytes)"
                );
                first
            }
            // If a topic is deleted, Kafka also forgets the offsets of its groups.
            Some(place) if place > end && self.is_known_to_kafka(topic, number)? => {
                tracing::warn!(
                    "kafka-to-redis: {topic}/{number} ends at offset {end} and was read up to \
                     {place}: Kafka has lost its latest messages; the bridge continues at its end"
                );
                end
            }
            Some(place) if place > end => {
                tracing::warn!(
                    "kafka-to-redis: {topic}/{number} ends at offset {end} and was read up to \
                     {place}: the topic was created again; the bridge reads it from its beginning"
                );
                first
            }
            Some(place) => place,
        };
        for (index, place) in places.iter_mut().enumerate() {
            let is_ahead = place.is_some_and(|place| (next..=end).contains(&place));
            if is_ahead {
                continue;
            }
            let batch = PlacedBatch {
                keys: &self.keys[index],
                partition: number,
                expected: *place,
                behind: next,
                entries: &[],
            };
            let stored = self.control.add_placed(&[batch], 1, 0)?.pop();
            match stored {
                Some(Ok(Placed::All)) => *place = Some(next),
                Some(Err(fault) | Ok(Placed::Some(_, _, fault))) => return Err(fault),
                // Another bridge stored a place in the meantime: the next round reads it.
                Some(Ok(Placed::Elsewhere(_))) | None => {
                    self.status.count_fenced();
                    let text =
                        format!("another bridge has stored a new position of {topic}/{number}");
                    return Err(Fault::Kafka { what: "taking over".into(), detail: text });
                }
            }
        }
        // Counted only now: the stored place is past these messages, so they are not counted twice.
        self.status.count_lost(gone);
        let taken = self.keys.iter().map(|_| Vec::new()).collect();
        Ok(HeldPartition { places, taken, next, told: -1, ..HeldPartition::default() })
    }

    /// Whether Kafka has an offset of this bridge's group for a partition.
    fn is_known_to_kafka(&self, topic: &str, number: i32) -> Result<bool, Fault> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, number);
        let what = format!("reading the offsets of the group {}", self.config.kafka.bridge_group);
        let found = self
            .consumer
            .committed_offsets(list, ANSWER_LIMIT)
            .map_err(|error| self.fault(what, &error))?;
        let place = found.find_partition(topic, number).map(|it| it.offset());
        Ok(matches!(place, Some(Offset::Offset(_))))
    }

    /// Whether a place is stored for any partition of the topic.
    fn has_any_place(&mut self) -> Result<bool, Fault> {
        let partitions = self.partitions()?;
        let places = self.control.places(&self.keys[0], &partitions)?;
        Ok(places.iter().any(Option::is_some))
    }

    /// The offsets of the old processor's group for partitions that have no place yet; partitions
    /// without an offset are left out.
    fn old_places(&self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Fault> {
        let kafka = &self.config.kafka;
        if partitions.is_empty() || kafka.begin != Begin::Group {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::new();
        for number in partitions {
            list.add_partition(topic, *number);
        }
        let old = client::asking(kafka, &kafka.consumer_group)?;
        let what = format!("reading the offsets of the group {}", kafka.consumer_group);
        let found =
            old.committed_offsets(list, ANSWER_LIMIT).map_err(|error| self.fault(what, &error))?;
        let place = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        Ok(found.elements().iter().filter_map(place).collect())
    }
}
