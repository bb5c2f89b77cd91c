//! Every bound that is not configurable, with its reason beside it.
