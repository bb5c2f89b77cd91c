//! Frame rings: a producer on this machine leaves pixels in shared memory, while Redis carries the
//! entry. The format is fixed; programs in other languages write it too.
//!
//! A ring is a file `NAME.ring` on a tmpfs. It begins with a [`RingHeader`], followed by the slots.
//! Each slot is a page with a [`SlotHead`] and room for pixels. A producer writes the pixels of a
//! frame into a slot and adds an entry whose field `ring` is a [`Reference`] to them.
//!
//! A reader never maps the file, for two reasons: a producer that truncates it would kill the
//! reader with SIGBUS, and pixels that change while they are encoded would mix two frames. Instead
//! it copies them with `pread` into a private buffer, and checks the slot's generation before and
//! after. Nothing in a reference or a header is used before it is checked.

mod folder;
mod layout;
mod reader;
mod reference;
mod survey;
mod waiting;
mod writer;

pub use folder::{default_folder, name_of};
pub use layout::{BadHeader, PAGE, RingHeader, SLOTS_MAX, SLOTS_MIN, SlotHead, is_name};
pub use reader::{Rings, Unread};
pub use reference::{BadReference, Reference};
pub use survey::{Listed, list};
pub use writer::{Ring, RingOptions};
