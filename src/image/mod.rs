//! Floor 3: codecs and scaling. All unsafe code of the crate lives here.
