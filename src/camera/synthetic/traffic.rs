//! Vehicles that follow each other in lanes.
//!
//! Each lane is a queue of drivers who keep their distance by the Intelligent Driver Model
//! (Treiber, Hennecke and Helbing, 2000). Drivers arrive at random. A periodic wave slows them
//! down, so that the traffic alternates between free flow and near-jam.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use super::vehicle::{self, VehicleKind};
use crate::camera::random::Random;

/// Where the road emerges from the haze, in metres ahead of the camera.
pub(super) const FAR: f32 = 200.0;
/// Where the road is below the picture for every lens, in metres ahead of the camera.
const NEAR: f32 = 4.0;
/// Longest time step of the drivers, in seconds, at any frame rate.
const REACTION: f64 = 0.1;
/// Maximum vehicles in a lane: the shortest ones, bumper to bumper.
pub(super) const LANE_VEHICLES: usize = 64;
/// Seconds from one wave of slow traffic to the next.
const WAVE_SECONDS: f64 = 75.0;

/// One vehicle in its lane.
#[derive(Clone, Debug)]
pub(super) struct Vehicle {
    pub(super) kind: VehicleKind,
    pub(super) paint: [f32; 3],
    /// Metres to the right of the middle of the lane.
    pub(super) aside: f32,
    /// Metres that its front bumper has travelled since it entered.
    travelled: f32,
    speed: f32,
    wish: f32,
}

/// One lane; the front of the queue is the first vehicle.
#[derive(Debug)]
pub(super) struct RoadLane {
    /// Metres to the right of the middle of the road.
    pub(super) middle: f32,
    /// Whether its vehicles come towards the camera.
    pub(super) oncoming: bool,
    pub(super) vehicles: VecDeque<Vehicle>,
    headway: f32,
    until_next: f32,
}

impl RoadLane {
    /// Distance of a vehicle's nearer end from the camera, in metres.
    pub(super) fn near_end(&self, vehicle: &Vehicle) -> f32 {
        if self.oncoming {
            FAR - vehicle.travelled
        } else {
            NEAR + vehicle.travelled - vehicle.kind.length
        }
    }
}

/// All traffic in view of one camera.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) lanes: Vec<RoadLane>,
    random: Random,
    seconds: f64,
    wave: f64,
}

impl Traffic {
    /// Traffic that has already run for a minute, on lanes given as (middle, oncoming).
    pub(super) fn new(lanes: impl Iterator<Item = (f32, bool)>, mut random: Random) -> Self {
        let lanes = lanes
            .map(|(middle, oncoming)| RoadLane {
                middle,
                oncoming,
                vehicles: VecDeque::with_capacity(LANE_VEHICLES),
                headway: random.between(2.2, 5.0),
                until_next: random.between(0.0, 3.0),
            })
            .collect();
        let wave = f64::from(random.unit());
        let mut traffic = Traffic { lanes, random, seconds: 0.0, wave };
        traffic.advance(60.0);
        traffic
    }

    /// Advances the traffic by `seconds`.
    pub(super) fn advance(&mut self, seconds: f64) {
        let steps = (seconds / REACTION).ceil().max(1.0);
        for _ in 0..steps as usize {
            self.react(seconds / steps);
        }
    }

    fn react(&mut self, seconds: f64) {
        self.seconds += seconds;
        let wave = (TAU * (self.seconds / WAVE_SECONDS + self.wave)).sin() as f32;
        let pace = (0.62 + 0.5 * wave).clamp(0.16, 1.0);
        for lane in &mut self.lanes {
            drive(&mut lane.vehicles, seconds as f32, pace);
            let oncoming = lane.oncoming;
            let gone = |first: &Vehicle| {
                let past = if oncoming { FAR - NEAR } else { FAR };
                first.travelled - first.kind.length > past
            };
            while lane.vehicles.front().is_some_and(gone) {
                lane.vehicles.pop_front();
            }
            lane.until_next -= seconds as f32;
            if lane.until_next <= 0.0 && enter(lane, &mut self.random) {
                let chance = self.random.between(0.02, 1.0);
                lane.until_next = 0.8 - lane.headway * chance.ln();
            }
        }
    }
}

/// Moves the vehicles of one lane; each reacts to the one before it.
fn drive(vehicles: &mut VecDeque<Vehicle>, seconds: f32, pace: f32) {
    const ACCELERATION: f32 = 1.6;
    const BRAKING: f32 = 2.2;
    let mut ahead: Option<(f32, f32)> = None;
    for vehicle in vehicles {
        let free = 1.0 - (vehicle.speed / (vehicle.wish * pace)).powi(4).min(4.0);
        let held = ahead.map_or(0.0, |(rear, speed)| {
            let gap = (rear - vehicle.travelled).max(0.5);
            let closing = vehicle.speed * (vehicle.speed - speed);
            let wanted =
                2.0 + vehicle.speed * 1.1 + closing / (2.0 * (ACCELERATION * BRAKING).sqrt());
            (wanted.max(0.0) / gap).powi(2)
        });
        let change = (ACCELERATION * (free - held)).max(-8.0);
        vehicle.speed = (vehicle.speed + change * seconds).max(0.0);
        vehicle.travelled += vehicle.speed * seconds;
        if let Some((rear, _)) = ahead {
            vehicle.travelled = vehicle.travelled.min(rear - 0.5);
        }
        ahead = Some((vehicle.travelled - vehicle.kind.length, vehicle.speed));
    }
}

/// Adds a new vehicle if there is room for it.
fn enter(lane: &mut RoadLane, random: &mut Random) -> bool {
    let last = lane.vehicles.back();
    let room = last.map_or(FAR, |last| last.travelled - last.kind.length);
    if room < 4.0 || lane.vehicles.len() == LANE_VEHICLES {
        return false;
    }
    let wish = random.between(11.0, 18.0);
    let speed = last.map_or(wish, |last| last.speed.min(wish)).min(room);
    let (kind, paint) = vehicle::draw_lot(random);
    let aside = random.between(-0.3, 0.3);
    lane.vehicles.push_back(Vehicle { kind, paint, aside, travelled: 0.0, speed, wish });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicles_never_drive_through_each_other_or_out_of_their_queue() {
        let lanes = [(-2.0, true), (2.0, false)];
        let mut traffic = Traffic::new(lanes.into_iter(), Random::new(5, 5));
        let mut seen = 0;
        for _ in 0..6000 {
            traffic.advance(1.0 / 15.0);
            for lane in &traffic.lanes {
                seen += lane.vehicles.len();
                for (first, second) in lane.vehicles.iter().zip(lane.vehicles.iter().skip(1)) {
                    let rear = first.travelled - first.kind.length;
                    assert!(second.travelled <= rear, "{second:?} is inside {first:?}");
                }
            }
        }
        assert!(seen > 6000 * 5, "a busy road, on average {}", seen / 6000);
    }
}
