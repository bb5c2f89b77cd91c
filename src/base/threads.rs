//! The one door for threads.
