//! What each fault may cost. The checker excuses this and nothing else.
//!
//! | promise | where it holds |
//! | --- | --- |
//! | no frame is lost | always, but for the entries that the fault itself took away |
//! | no frame is doubled | `exactly_once`, but for the entries that the fault itself handed out again |
//! | order within a camera | `exclusive`: always; `shared`: one engine, and no failover |
//! | the accounts are true | always; after a failover the results that the old primary took with it are missing |

use super::kind::Kind;

/// An engine sees what the others have finished only when it reads itself, which it does at least
/// this often, in milliseconds (`block_time_ms`). If it makes the group anew, it begins at what it
/// has seen.
pub const UNSEEN_MS: u64 = 2_000;

/// How long engines may take to restore a group, other faults included, in milliseconds.
pub const RESTORE_MS: u64 = 5_000;

/// Which frames a fault may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loses {
    Nothing,
    /// Entries that it removed from the input stream before they were finished.
    Removed,
    /// Entries that no replica had yet.
    Unreplicated,
    /// Entries pending, if several engines share the stream, consumers delete results, and entries
    /// are not deleted when they have ended: no engine can find out what the others were given.
    OnTheirWay,
}

/// Which frames a fault may double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubles {
    Nothing,
    /// Entries behind the place to which it set the group back.
    HandedOutAgain,
    /// Entries in hand, and those finished within [`UNSEEN_MS`], if there are several engines; every
    /// entry of the stream, if an engine has never seen the group that is gone.
    InHandOfSeveral,
    /// With `at_least_once`, those whose commit had no answer.
    Unanswered,
}

/// What a fault may cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub loses: Loses,
    pub doubles: Doubles,
    /// Whether frames of a camera may change their order although there is one engine.
    pub reorders: bool,
    /// Whether the accounts of the engines may name more results than are there.
    pub miscounts: bool,
}

impl Cost {
    const NOTHING: Cost = Cost {
        loses: Loses::Nothing,
        doubles: Doubles::Nothing,
        reorders: false,
        miscounts: false,
    };

    /// The table.
    pub fn of(kind: Kind) -> Cost {
        use Kind::*;
        let nothing = Cost::NOTHING;
        match kind {
            // The server answers all the time, and it keeps what it has.
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
                Cost { loses: Loses::OnTheirWay, doubles: Doubles::InHandOfSeveral, ..nothing }
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
        matches!(self.loses, Loses::Nothing | Loses::OnTheirWay)
            && self.doubles != Doubles::HandedOutAgain
    }
}
