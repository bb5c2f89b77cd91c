//! Floor 4: where frames come from.
