//! The kinds of fault: their names, where they can happen, how long they last, and which of them
//! exclude each other in time.
//!
//! A fault belongs to a lane. Faults of one lane follow each other; faults of different lanes
//! overlap. `cost` defines what a fault may cost.

use clap::ValueEnum;
use serde::Serialize;

use super::draw::Topology;

/// The target of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The process of one engine.
    Process,
    /// The connections of one engine.
    Network,
    /// The server or the streams in it.
    Server,
    /// The consumer of the output.
    Consumer,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL of an engine, and a restart
    KillEngine,
    /// SIGTERM of an engine, and a restart
    TermEngine,
    /// SIGSTOP of an engine for longer than the claim time, then SIGCONT
    StopEngine,
    /// The clock of an engine steps forward or backward, and back
    ClockOfEngine,
    /// The proxy closes all connections of an engine
    Cut,
    /// The proxy resets a connection in the middle of a large answer
    CutInBulk,
    /// The proxy resets a connection in the middle of a large request
    CutInRequest,
    /// The proxy stops forwarding for a while
    Stall,
    /// CLIENT KILL TYPE normal
    ClientKill,
    /// CLIENT PAUSE
    ClientPause,
    /// XGROUP DESTROY
    GroupDestroy,
    /// XGROUP SETID to the id that was delivered last
    GroupSetIdSame,
    /// XGROUP SETID to an earlier id
    GroupSetIdBack,
    /// FLUSHALL
    FlushAll,
    /// DEL of the input stream
    DelInput,
    /// DEL of the output stream, after its results were archived
    DelOutput,
    /// XDEL of pending entries
    XdelPending,
    /// XTRIM of the input stream to half of its length
    XtrimInput,
    /// SCRIPT FLUSH
    ScriptFlush,
    /// An endless script, ended by SCRIPT KILL
    ScriptKill,
    /// A script that keeps the server busy
    LongScript,
    /// The engines lose the right to XACK
    AclXack,
    /// The engines lose the right to XADD
    AclXadd,
    /// The engines lose the right to XREADGROUP
    AclXreadgroup,
    /// The engines lose the right to EVALSHA
    AclEvalsha,
    /// The engines' password is removed and their connections are closed
    Password,
    /// maxmemory below the used memory
    OutOfMemory,
    /// stop-writes-on-bgsave-error, and a BGSAVE that fails
    Misconf,
    /// min-replicas-to-write 1 without a replica
    NoReplicas,
    /// REPLICAOF an address without a server
    ReadOnly,
    /// maxclients below what the engines need, and their connections are closed
    MaxClients,
    /// A string in place of the output stream
    OutputType,
    /// The consumer of the output pauses, so that the output fills up
    OutputFull,
    /// DEBUG SLEEP
    DebugSleep,
    /// SIGSTOP of the server, then SIGCONT
    StopServer,
    /// The clock of the server steps forward or backward, and back
    ClockOfServer,
    /// SIGTERM of the server, and a restart with its data
    RestartServer,
    /// SIGKILL of the server, and a restart with its data
    CrashServer,
    /// SIGKILL of the server, and a restart without its data
    RestartEmpty,
    /// SIGKILL of the primary that Sentinels watch
    FailoverKill,
    /// SENTINEL FAILOVER
    FailoverOrdered,
    /// SIGSTOP of the primary that Sentinels watch
    FailoverSilent,
    /// The slot of the streams moves to another node of the Cluster
    MoveSlot,
}

impl Kind {
    /// Every kind.
    pub fn all() -> &'static [Kind] {
        Kind::value_variants()
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn lane(self) -> Lane {
        use Kind::*;
        match self {
            KillEngine | TermEngine | StopEngine | ClockOfEngine => Lane::Process,
            Cut | CutInBulk | CutInRequest | Stall => Lane::Network,
            OutputFull => Lane::Consumer,
            _ => Lane::Server,
        }
    }

    /// Shortest and longest duration in milliseconds; zeros if the fault has no end.
    /// `claim_idle_ms` is the claim time of the engines.
    pub fn lasts(self, claim_idle_ms: u64) -> (u64, u64) {
        use Kind::*;
        match self {
            KillEngine | TermEngine => (0, 500),
            StopEngine => (claim_idle_ms * 6 / 5, claim_idle_ms * 7 / 4),
            ClockOfEngine | ClockOfServer => (300, 1_500),
            Stall => (100, 1_200),
            ClientPause => (100, 900),
            LongScript | DebugSleep => (300, 1_000),
            ScriptKill => (200, 600),
            AclXack | AclXadd | AclXreadgroup | AclEvalsha | Password => (100, 900),
            OutOfMemory | Misconf | NoReplicas | ReadOnly | MaxClients | OutputType => (100, 900),
            OutputFull => (1_500, 7_000),
            StopServer => (100, 1_000),
            RestartServer | CrashServer | RestartEmpty => (0, 500),
            FailoverSilent => (2_500, 3_500),
            _ => (0, 0),
        }
    }

    /// Whether an engine that starts meanwhile takes it for a configuration error, and may end.
    pub fn spoils_start(self) -> bool {
        use Kind::*;
        matches!(self, AclXack | AclXadd | AclXreadgroup | AclEvalsha | Password | OutputType)
    }

    /// Whether it can happen in that topology.
    pub fn is_of(self, topology: Topology) -> bool {
        use Kind::*;
        match topology {
            Topology::Single => {
                !matches!(self, FailoverKill | FailoverOrdered | FailoverSilent | MoveSlot)
            }
            // A server that is silent for long is replaced: only the failovers do that here.
            Topology::Sentinel => matches!(
                self,
                KillEngine
                    | TermEngine
                    | StopEngine
                    | FailoverKill
                    | FailoverOrdered
                    | FailoverSilent
                    | ClientKill
                    | ScriptFlush
            ),
            Topology::Cluster => matches!(
                self,
                KillEngine
                    | TermEngine
                    | StopEngine
                    | MoveSlot
                    | ClientKill
                    | ScriptFlush
                    | ClientPause
                    | DebugSleep
                    | GroupSetIdSame
            ),
        }
    }

    /// How often it is in the bag from which faults are drawn.
    pub fn weight(self, topology: Topology) -> usize {
        match self {
            Kind::MoveSlot => 8,
            Kind::FailoverKill | Kind::FailoverOrdered | Kind::FailoverSilent => 2,
            Kind::KillEngine | Kind::TermEngine | Kind::GroupDestroy | Kind::Cut
                if topology == Topology::Single =>
            {
                2
            }
            _ => 1,
        }
    }
}
