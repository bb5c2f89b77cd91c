//! Floor 4: configuration, as typed and as valid.
