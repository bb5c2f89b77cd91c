//! Floor 3: figures computed from planes; plain functions over slices.
