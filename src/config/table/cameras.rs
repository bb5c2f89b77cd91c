//! The list of cameras as a value.

use super::{CameraConfig, FeedConfig, Section, mapping};
use crate::config::given::{Given, Parsed};
use crate::config::kind::{MappingFields, Secrets, ValueKind, each};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A list of cameras with distinct ids.
pub(super) struct CameraList;

impl ValueKind<Vec<CameraConfig>> for CameraList {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<CameraConfig>> {
        let mut seen = HashSet::new();
        let names = [CameraConfig::NAMES, FeedConfig::NAMES].concat();
        each(given, &self.valid(), |at, value, problems| {
            let mut fields = MappingFields::open(at, value, &names, problems)?;
            let mut camera = CameraConfig::read(&mut fields, CameraConfig::builtin());
            if !camera.id.is_empty() && !seen.insert(camera.id.clone()) {
                fields.fault("id", "another camera has this id; valid: an id of its own".into());
            }
            if camera.source.is_some() && camera.source_file.is_some() {
                let message = "source is set as well; valid: one of the two";
                fields.fault("source_file", message.into());
            }
            let given =
                FeedConfig::NAMES.iter().filter_map(|key| Some((*key, fields.get(key)?.clone())));
            camera.feed_given = given.map(|(key, value)| (key.to_owned(), value)).collect();
            // Reports the faults; `CameraConfig::inherit` lays the values over `ingest.defaults`.
            camera.feed = FeedConfig::read(&mut fields, FeedConfig::builtin());
            (!camera.id.is_empty()).then_some(camera)
        })
    }

    fn write(&self, value: &Vec<CameraConfig>, secrets: Secrets) -> Value {
        value.iter().map(|camera| write_camera(camera, secrets)).collect()
    }

    fn value_type(&self) -> String {
        "list of mappings".into()
    }

    fn valid(&self) -> String {
        "a list of cameras such as {id: cam1, roi_boxes: []}".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!([{ "id": "cam1", "roi_boxes": [] }]), json!([])]
    }
}

/// The id, the regions, and what else differs from the built-in values.
fn write_camera(camera: &CameraConfig, secrets: Secrets) -> Value {
    let builtin = mapping(CameraConfig::builtin().write(secrets));
    let mut map = mapping(camera.write(secrets));
    let is_always_there = |name: &str| ["id", "roi_boxes"].contains(&name);
    map.retain(|name, value| is_always_there(name) || builtin.get(name) != Some(&*value));
    map.extend(camera.feed_given.clone());
    Value::Object(map)
}
