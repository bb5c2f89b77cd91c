//! The gate of a camera: items arrive in any order and pass in the order of their tickets.
//!
//! Each ticket arrives exactly once. The thread that brings the next ticket also passes the items
//! waiting behind it, so no thread waits and no item is left behind. The slots that frames hold
//! bound how many items wait.

/// Puts arrivals back into the order of their tickets.
#[derive(Debug)]
pub(super) struct OrderGate<T> {
    next_ticket: u64,
    waiting: Vec<(u64, T)>,
}

impl<T> Default for OrderGate<T> {
    fn default() -> Self {
        OrderGate { next_ticket: 0, waiting: Vec::with_capacity(8) }
    }
}

impl<T> OrderGate<T> {
    /// Leaves `thing` at the gate.
    pub(super) fn arrive(&mut self, ticket: u64, thing: T) {
        self.waiting.push((ticket, thing));
    }

    /// The item with the next ticket, if it has arrived.
    pub(super) fn pass(&mut self) -> Option<T> {
        let index = self.waiting.iter().position(|(ticket, _)| *ticket == self.next_ticket)?;
        self.next_ticket += 1;
        Some(self.waiting.swap_remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_order_of_arrival_all_pass_in_order(
            tickets in Just((0_u64..50).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut gate = OrderGate::default();
            let mut passed = Vec::new();
            for ticket in tickets {
                gate.arrive(ticket, ticket);
                while let Some(ticket) = gate.pass() {
                    passed.push(ticket);
                }
            }
            prop_assert_eq!(passed, (0..50).collect::<Vec<_>>());
        }
    }
}
