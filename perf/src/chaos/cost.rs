//! The permitted cost of each fault. The checker excuses this and nothing else.
//!
//! | promise | where it holds |
//! | --- | --- |
//! | no frame is lost | always, except the entries that the fault itself removed |
//! | no frame is doubled | `exactly_once`, except entries that the fault itself handed out again |
//! | order within a camera | `exclusive`: always; `shared`: one engine, and no failover |
//! | the accounts are true | always, except results lost in a failover |

use super::kind::Kind;

/// An engine learns what the others have finished only when it reads itself, which it does at least
/// this often, in milliseconds (`block_time_ms`). If it recreates the group, the group begins at
/// what the engine has seen.
pub const UNSEEN_MS: u64 = 2_000;

/// Time limit for engines to restore a group, other faults included, in milliseconds.
pub const RESTORE_MS: u64 = 5_000;

/// Which frames a fault may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loses {
    Nothing,
    /// Entries that it removed from the input stream before they were finished.
    Removed,
    /// Entries that no replica had yet.
    Unreplicated,
    /// Pending entries, if several engines share the stream, consumers delete results, and ended
    /// entries are not deleted: no engine can find out what the others were given.
    InTransit,
}

/// Which frames a fault may double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubles {
    Nothing,
    /// Entries after the position to which it set the group back.
    HandedOutAgain,
    /// Entries in hand, and those finished within [`UNSEEN_MS`], if there are several engines.
    /// Every entry of the stream, if an engine has never seen the destroyed group.
    InHandOfSeveral,
    /// With `at_least_once`, those whose commit had no answer.
    Unanswered,
}

/// The permitted cost of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub loses: Loses,
    pub doubles: Doubles,
    /// Whether frames of a camera may change their order although there is only one engine.
    pub reorders: bool,
    /// Whether the engines' accounts may count more results than exist.
    pub miscounts: bool,
}

impl Cost {
    const NOTHING: Cost = Cost {
        loses: Loses::Nothing,
        doubles: Doubles::Nothing,
        reorders: false,
        miscounts: false,
    };

    /// The permitted cost of a kind.
    pub fn of(kind: Kind) -> Cost {
        use Kind::*;
        let nothing = Cost::NOTHING;
        match kind {
            // The server answers all the time and keeps its data.
            TermEngine | ClockOfEngine | GroupSetIdSame | DelOutput | ScriptFlush | AclXack
            | AclXadd | AclXreadgroup | AclEvalsha | OutOfMemory | Misconf | NoReplicas
            | ReadOnly | OutputType | OutputFull | ClockOfServer => nothing,
            // Answers are lost or late; the data stay.
            KillEngine | StopEngine | Cut | CutInBulk | CutInRequest | Stall | ClientKill
            | ClientPause | ScriptKill | LongScript | Password | MaxClients | DebugSleep
            | StopServer | RestartServer | CrashServer | MoveSlot => {
                Cost { doubles: Doubles::Unanswered, ..nothing }
            }
            GroupDestroy => {
                Cost { loses: Loses::InTransit, doubles: Doubles::InHandOfSeveral, ..nothing }
            }
            GroupSetIdBack => Cost { doubles: Doubles::HandedOutAgain, ..nothing },
            FlushAll | DelInput | XdelPending | XtrimInput => {
                Cost { loses: Loses::Removed, ..nothing }
            }
            RestartEmpty => Cost { loses: Loses::Removed, doubles: Doubles::Unanswered, ..nothing },
            FailoverKill | FailoverOrdered | FailoverSilent => Cost {
                loses: Loses::Unreplicated,
                doubles: Doubles::Unanswered,
                reorders: true,
                miscounts: true,
            },
        }
    }

    /// Whether every entry stays where it is and is handed out once.
    pub fn keeps_data(self) -> bool {
        matches!(self.loses, Loses::Nothing | Loses::InTransit)
            && self.doubles != Doubles::HandedOutAgain
    }
}
