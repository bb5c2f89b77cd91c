//! The table of configuration keys. An entry is all that is known about a key: its description, name,
//! type, built-in value, kind (how it is read, written and what is valid), unit, whether a running
//! engine takes a new value over, and the version that brought it.
//!
//! [`section!`] expands the entries of a section to its struct, its built-in values, its reading, its
//! rendering, its part of a reload, and the [`Key`]s from which deploy/framepress.example.yaml and
//! docs/configuration.md are made. A new key is one new entry here, and the place that uses it.

mod analysis;
mod cameras;
mod engine;
mod ingest;
mod kafka;
mod redis_queue;
mod root;

pub use analysis::{AnalysisConfig, LimitsConfig, LogConfig, RingConfig, StatsConfig};
pub use engine::EngineConfig;
pub use ingest::{CameraConfig, FeedConfig, IngestConfig, IngestStatsConfig};
pub use kafka::{KafkaConfig, KafkaStatsConfig};
pub use redis_queue::{RedisQueueConfig, TlsConfig};
pub use root::Config;

use super::kind::{KeySource, Secrets, ValueKind};
use serde_json::{Map, Value};

/// Version 0.1.0: the first release.
const FIRST: &str = "0.1.0";
/// Version 0.2.0: the coming release.
const SECOND: &str = "0.2.0";

/// What is known about a configuration key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The section, dotted: `redis_queue.tls`. `cameras[]` for the keys of one camera, empty for a
    /// key that stands in no section.
    pub section: &'static str,
    /// The name within the section.
    pub name: &'static str,
    /// What the key does, in one or two sentences.
    pub description: String,
    /// The type of its value: `whole number`, `word`, `path`.
    pub value_type: String,
    /// Which values are valid.
    pub valid: String,
    /// The built-in value.
    pub default: Value,
    /// The unit of a number, as in `ms`.
    pub unit: Option<&'static str>,
    /// Whether a running engine takes a new value over when it reloads its configuration.
    pub is_reloadable: bool,
    /// The first version that has the key.
    pub since: &'static str,
    /// Valid values that differ from each other.
    pub examples: Vec<Value>,
}

/// What a section, or a key, looks like in a file.
#[derive(Clone, Debug)]
pub(super) enum ConfigNode {
    Key(Value),
    Section(Vec<(&'static str, ConfigNode)>),
}

impl ConfigNode {
    pub(super) fn is_section(&self) -> bool {
        matches!(self, ConfigNode::Section(_))
    }
}

impl From<ConfigNode> for Value {
    fn from(node: ConfigNode) -> Value {
        match node {
            ConfigNode::Key(value) => value,
            ConfigNode::Section(keys) => Value::Object(mapping(keys)),
        }
    }
}

/// What [`section!`] makes of the entries of a section.
pub(super) trait Section: Sized {
    /// The names of its keys and of the sections in it.
    const NAMES: &'static [&'static str];

    /// The built-in values.
    fn builtin() -> Self;

    /// Every value from `source`, where it says something, or else from `default`.
    fn read(source: &mut impl KeySource, default: Self) -> Self;

    /// The section as a file has it. Of a value and the file that holds it, only the one is there
    /// that was given.
    fn write(&self, secrets: Secrets) -> Vec<(&'static str, ConfigNode)>;

    /// Takes over from `new` what may change while an engine runs.
    fn take_live(&mut self, new: &Self);

    /// Adds the keys of the section, and of those in it, to `keys`.
    fn keys(keys: &mut Vec<Key>);
}

/// `keys` as one mapping.
pub(super) fn mapping(keys: Vec<(&'static str, ConfigNode)>) -> Map<String, Value> {
    keys.into_iter().map(|(name, node)| (name.to_owned(), node.into())).collect()
}

/// Of each pair `name` and `name_file` keeps the one that was given, or `name` if neither was.
fn without_alternatives(
    mut keys: Vec<(&'static str, ConfigNode)>,
) -> Vec<(&'static str, ConfigNode)> {
    let names: Vec<_> = keys.iter().map(|(name, _)| *name).collect();
    let alternatives = names.iter().filter_map(|file| {
        let name = file.strip_suffix("_file")?;
        names.contains(&name).then_some((name, *file))
    });
    for (name, file) in alternatives {
        let is_given = |key: &&(&str, ConfigNode)| {
            key.0 == file && !matches!(key.1, ConfigNode::Key(Value::Null))
        };
        let left_out = if keys.iter().find(is_given).is_some() { name } else { file };
        keys.retain(|(name, _)| *name != left_out);
    }
    keys
}

/// The lines of a documentation comment as one text.
fn description(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A section of the configuration from its entries, as in
///
/// ```ignore
/// section! {
///     /// Section `log`.
///     Log in "log." {
///         /// How often the engine logs a summary; 0 means never.
///         summary_seconds: u64 = 60 => Whole(0..=86_400), unit: "s", reload: yes, since: FIRST;
///     }
///     // Sections in this one.
///     sections {}
///     // Fields that are no keys.
///     beside {}
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident in $path:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty = $default:expr => $kind:expr
                    $(, unit: $unit:literal)?, reload: $reload:ident, since: $since:ident;
            )*
        }
        sections { $( $(#[doc = $inner_doc:literal])+ $inner:ident: $inner_type:ty; )* }
        beside { $( $(#[doc = $beside_doc:literal])+ $beside:ident: $beside_type:ty = $beside_default:expr; )* }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`." $(, " Unit: ", $unit, ".")?)]
                pub $name: $type,
            )*
            $( $(#[doc = $inner_doc])+ pub $inner: $inner_type, )*
            $( $(#[doc = $beside_doc])+ pub $beside: $beside_type, )*
        }

        impl $crate::config::table::Section for $section {
            const NAMES: &'static [&'static str] =
                &[$(stringify!($name),)* $(stringify!($inner),)*];

            fn builtin() -> Self {
                $section {
                    $( $name: $default, )*
                    $( $inner: <$inner_type>::builtin(), )*
                    $( $beside: $beside_default, )*
                }
            }

            #[allow(unused_variables, reason = "a section may have only sections")]
            fn read(source: &mut impl $crate::config::kind::KeySource, default: Self) -> Self {
                $section {
                    $( $name: source.value(
                        concat!($path, stringify!($name)), default.$name, &$kind,
                    ), )*
                    $( $inner: <$inner_type>::read(source, default.$inner), )*
                    $( $beside: default.$beside, )*
                }
            }

            #[allow(unused_variables, reason = "a section may have only sections")]
            fn write(
                &self,
                secrets: $crate::config::kind::Secrets,
            ) -> Vec<(&'static str, $crate::config::table::ConfigNode)> {
                use $crate::config::table::ConfigNode;
                $crate::config::table::without_alternatives(vec![
                    $( (
                        stringify!($name),
                        ConfigNode::Key($crate::config::kind::ValueKind::write(&$kind, &self.$name, secrets)),
                    ), )*
                    $( (stringify!($inner), ConfigNode::Section(self.$inner.write(secrets))), )*
                ])
            }

            #[allow(unused_variables, reason = "a section may have no such key")]
            fn take_live(&mut self, new: &Self) {
                $( $crate::config::table::reload!($reload, self.$name, new.$name); )*
                $( self.$inner.take_live(&new.$inner); )*
            }

            fn keys(keys: &mut Vec<$crate::config::table::Key>) {
                $( keys.push({
                    let kind = $kind;
                    let default: $type = $default;
                    $crate::config::table::key(
                        $path, stringify!($name), &[$($doc),+], &kind, &default,
                        [$($unit,)? ""][0], stringify!($reload) == "yes", $since,
                    )
                }); )*
                $( <$inner_type>::keys(keys); )*
            }
        }
    };
}

/// Takes a value over if the entry says `reload: yes`.
macro_rules! reload {
    (yes, $old:expr, $new:expr) => {
        $old.clone_from(&$new)
    };
    (no, $old:expr, $new:expr) => {};
}

use {reload, section};

/// An entry of the table as a [`Key`].
#[expect(
    clippy::too_many_arguments,
    reason = "called by section! only, with the parts of an entry"
)]
fn key<T, K: ValueKind<T>>(
    path: &'static str,
    name: &'static str,
    doc: &[&str],
    kind: &K,
    default: &T,
    unit: &'static str,
    is_reloadable: bool,
    since: &'static str,
) -> Key {
    Key {
        section: path.strip_suffix('.').unwrap_or(path),
        name,
        description: description(doc),
        value_type: kind.value_type(),
        valid: kind.valid(),
        default: kind.write(default, Secrets::Hidden),
        unit: Some(unit).filter(|unit| !unit.is_empty()),
        is_reloadable,
        since,
        examples: kind.examples(),
    }
}
