//! Lanes: bounded crossbeam channels whose waits end when the engine stops at once.
//!
//! An orderly end needs no signal: the sender is dropped, the receiver takes the remaining items
//! and sees the lane closed.

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, select};

use crate::base::{Fault, Stop, limits};

/// Sends into a lane, waiting while it is full. `to` names the receiver in the fault.
///
/// # Errors
/// [`Fault::NeighbourGone`] if the receiver is gone or the engine stops at once; the item is
/// dropped.
pub fn send<T>(lane: &Sender<T>, mut item: T, stop: &Stop, to: &'static str) -> Result<(), Fault> {
    loop {
        item = match lane.send_timeout(item, limits::LANE_TICK) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Timeout(item)) if !stop.is_now() => item,
            Err(_) => return Err(Fault::NeighbourGone(to)),
        };
    }
}

/// Receives from a lane, waiting while it is empty. `None` if it is closed and empty, or if the
/// engine stops at once.
pub fn recv<T>(lane: &Receiver<T>, stop: &Stop) -> Option<T> {
    // Selecting over two channels costs more, so do it only if the lane stays empty.
    match lane.recv_timeout(limits::LANE_TICK) {
        Ok(item) => return Some(item),
        Err(RecvTimeoutError::Timeout) if !stop.is_now() => {}
        Err(_) => return None,
    }
    select! {
        recv(lane) -> item => item.ok(),
        recv(stop.leaving()) -> _ => None,
    }
}
