//! Lists and mappings of single values.

use super::{Given, MappingFields, Parsed, Problem, Secrets, ValueKind, problem};
use crate::config::choice::Pin;
use crate::config::file;
use crate::config::secret::{HIDDEN, Secret, names_a_secret, shown_key};
use crate::config::url::{HostPort, is_host};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// Highest number of a shard; `shards` itself is checked in `check.rs`.
const SHARD_MAX: u64 = 16_383;
/// Port of a broker that names none.
const BROKER_PORT: u16 = 9092;

/// Properties of librdkafka that would break what the bridge promises, or that have a key of their own.
const OWN_PROPERTIES: [&str; 19] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "plugin.library.paths",
    "request.required.acks",
    "sasl.password",
    "ssl.key.password",
    "statistics.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// `auto`, `off` or a list of cores, up to the highest number of one.
pub(in crate::config) struct CoreList(pub u64);

impl ValueKind<Pin> for CoreList {
    fn read(&self, given: Given<'_>) -> Parsed<Pin> {
        match given.value.as_str().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
            Some("auto") => return Ok(Pin::Auto),
            Some("off") => return Ok(Pin::Off),
            _ => {}
        }
        if given.structure().is_err() {
            return Err(self.fault());
        }
        distinct(given, &self.valid(), self.0, "core").map(Pin::Cores)
    }

    fn write(&self, value: &Pin, _: Secrets) -> Value {
        match value {
            Pin::Auto => "auto".into(),
            Pin::Off => "off".into(),
            Pin::Cores(cores) => cores.clone().into(),
        }
    }

    fn value_type(&self) -> String {
        "word or list of whole numbers".into()
    }

    fn valid(&self) -> String {
        "auto, off, or a list of cores such as [0, 2]".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("off"), json!([0, 3])]
    }
}

/// Numbers of shards, ascending when read; or null.
pub(in crate::config) struct ShardList;

impl ValueKind<Option<Vec<usize>>> for ShardList {
    fn read(&self, given: Given<'_>) -> Parsed<Option<Vec<usize>>> {
        if given.is_null() {
            return Ok(None);
        }
        let mut numbers = distinct(given, &self.valid(), SHARD_MAX, "shard")?;
        numbers.sort_unstable();
        Ok(Some(numbers))
    }

    fn write(&self, value: &Option<Vec<usize>>, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "list of whole numbers or null".into()
    }

    fn valid(&self) -> String {
        "a list of shards such as [0, 2], or null".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!([0]), Value::Null]
    }
}

/// Distinct whole numbers up to `most`, at least one; each is a `what`.
fn distinct(given: Given<'_>, valid: &str, most: u64, what: &str) -> Parsed<Vec<usize>> {
    let mut seen = HashSet::new();
    let numbers = each(given, valid, |at, value, problems| {
        let number = Given { value, is_text: false }.whole::<usize>(&(0..=most));
        let number = number.and_then(|number| match seen.insert(number) {
            true => Ok(number),
            false => Err(format!("valid: each {what} once")),
        });
        number
            .map_err(|message| problems.push(Problem { at, part: Some(value.clone()), message }))
            .ok()
    })?;
    if numbers.is_empty() { Err(problem(format!("valid: {valid}"))) } else { Ok(numbers) }
}

/// Host names without ports. Where everything is text, commas may separate them.
pub(in crate::config) struct HostList;

impl ValueKind<Vec<String>> for HostList {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<String>> {
        if given.value.is_string() && !given.is_text {
            return Err(self.fault());
        }
        words(given, &self.valid(), |name| match is_host(name).is_ok() && !name.contains(':') {
            true => Ok(name.to_owned()),
            false => Err("valid: a host name, without a port".into()),
        })
    }

    fn write(&self, value: &Vec<String>, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "list of host names".into()
    }

    fn valid(&self) -> String {
        "a list of host names such as [cabinet-7.example]".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(["cabinet-7.example"]), json!([])]
    }
}

/// `host:port` of brokers, one or several, as a list or separated by commas.
pub(in crate::config) struct Brokers;

impl ValueKind<Vec<HostPort>> for Brokers {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<HostPort>> {
        words(given, &self.valid(), |text| {
            HostPort::parse(text, Some(BROKER_PORT)).map_err(|valid| format!("valid: {valid}"))
        })
    }

    fn write(&self, value: &Vec<HostPort>, _: Secrets) -> Value {
        value.iter().map(|broker| json!(broker.to_string())).collect()
    }

    fn value_type(&self) -> String {
        "list of host:port".into()
    }

    fn valid(&self) -> String {
        "a list of host:port such as [kafka1:9092]".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(["kafka1:9092", "kafka2:9093"]), json!([])]
    }
}

/// Sentinels: mappings of host and port, `host:port`, or pairs of both as the Kafka-era files had them.
pub(in crate::config) struct SentinelNodes;

impl ValueKind<Vec<HostPort>> for SentinelNodes {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<HostPort>> {
        each(given, &self.valid(), sentinel)
    }

    fn write(&self, value: &Vec<HostPort>, _: Secrets) -> Value {
        value.iter().map(|node| json!({ "host": node.host, "port": node.port })).collect()
    }

    fn value_type(&self) -> String {
        "list of mappings".into()
    }

    fn valid(&self) -> String {
        "a list of Sentinels such as {host: sentinel1, port: 26379}".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!([{ "host": "::1", "port": 26380 }]), json!([])]
    }
}

fn sentinel(at: String, value: &Value, problems: &mut Vec<Problem>) -> Option<HostPort> {
    let port_of = |given: Given<'_>| given.whole::<u16>(&(1..=65535));
    let read = match value {
        Value::String(text) => HostPort::parse(text, None)
            .ok()
            .filter(|node| node.port > 0)
            .ok_or("valid: host:port, as in sentinel1:26379"),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(host), port] if is_host(host).is_ok() => {
                let port = port_of(Given { value: port, is_text: false }).ok();
                port.map(|port| HostPort { host: host.clone(), port })
            }
            _ => None,
        }
        .ok_or("valid: {host: sentinel1, port: 26379}"),
        _ => {
            let mut fields = MappingFields::open(at, value, &["host", "port"], problems)?;
            let host = fields.required("host", |given| {
                let host = given.text()?;
                is_host(host).map_err(|_| "valid: a host name or address")?;
                Ok(host.to_string())
            });
            let port = fields.required("port", port_of);
            return Some(HostPort { host: host?, port: port? });
        }
    };
    read.map_err(|message| {
        problems.push(Problem { at, part: Some(value.clone()), message: message.into() });
    })
    .ok()
}

/// Names and values for librdkafka.
pub(in crate::config) struct Properties;

impl ValueKind<BTreeMap<String, Secret>> for Properties {
    fn read(&self, given: Given<'_>) -> Parsed<BTreeMap<String, Secret>> {
        let fault = || vec![hidden(&format!("valid: {}", self.valid()))];
        let parsed;
        let value = match given.value.as_str() {
            Some(text) if given.is_text => {
                parsed = file::parse_json(text).map_err(|_| fault())?;
                &parsed
            }
            _ => given.value,
        };
        let map = match value {
            Value::Null => return Ok(BTreeMap::new()),
            Value::Object(map) => map,
            _ => return Err(fault()),
        };
        let mut properties = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in map {
            let at = format!(".{}", shown_key(name));
            let text = match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(truth) => Some(truth.to_string()),
                _ => None,
            };
            let own = OWN_PROPERTIES.contains(&name.as_str());
            match text.filter(|text| !text.contains('\0')) {
                _ if own => problems.push(Problem {
                    at,
                    part: None,
                    message: "the bridge sets it itself, or there is a key of section kafka for it"
                        .into(),
                }),
                Some(text) => drop(properties.insert(name.clone(), Secret::new(text))),
                None => {
                    let message = "valid: text, a number, true or false".into();
                    problems.push(Problem { at, part: None, message });
                }
            }
        }
        if problems.is_empty() { Ok(properties) } else { Err(problems) }
    }

    fn write(&self, value: &BTreeMap<String, Secret>, secrets: Secrets) -> Value {
        let shown = |(name, value): (&String, &Secret)| {
            let is_shown = secrets == Secrets::Exposed || !is_secret(name);
            (name.clone(), Value::from(if is_shown { value.expose() } else { HIDDEN }))
        };
        Value::Object(value.iter().map(shown).collect::<Map<_, _>>())
    }

    fn value_type(&self) -> String {
        "mapping".into()
    }

    fn valid(&self) -> String {
        "a mapping of librdkafka's names and values".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!({ "socket.timeout.ms": "60000" }), json!({})]
    }
}

/// Whether the value of a property of librdkafka is a secret.
pub fn is_secret(name: &str) -> bool {
    names_a_secret(name) || name.ends_with(".pem") || name.contains("jaas")
}

/// A fault whose value is not shown: it may hold secrets.
fn hidden(message: &str) -> Problem {
    Problem { at: ".*".into(), part: None, message: message.into() }
}

/// A list of words; in one text with commas between, too.
fn words<T>(
    given: Given<'_>,
    valid: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Parsed<Vec<T>> {
    let listed = match given.value.as_str() {
        Some(text) if text.trim().is_empty() => Some(Value::Array(Vec::new())),
        Some(text) if !text.trim_start().starts_with('[') => {
            Some(text.split(',').map(str::trim).map(Value::from).collect::<Value>())
        }
        _ => None,
    };
    let given = match &listed {
        Some(value) => Given { value, is_text: false },
        None => given,
    };
    each(given, valid, |at, value, problems| {
        let word = value.as_str().ok_or_else(|| format!("valid: {valid}")).and_then(&read);
        word.map_err(|message| {
            problems.push(Problem { at, part: Some(value.clone()), message });
        })
        .ok()
    })
}

/// Reads every item of a list, going on after a fault so that all of them are reported.
pub(in crate::config) fn each<T>(
    given: Given<'_>,
    valid: &str,
    mut read: impl FnMut(String, &Value, &mut Vec<Problem>) -> Option<T>,
) -> Parsed<Vec<T>> {
    let list = given.structure().map_err(|message| vec![message.into()])?;
    let Some(items) = list.as_array() else {
        return Err(vec![format!("valid: {valid}").into()]);
    };
    let mut problems = Vec::new();
    let mut read_items = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        read_items.extend(read(format!("[{index}]"), item, &mut problems));
    }
    if problems.is_empty() { Ok(read_items) } else { Err(problems) }
}
