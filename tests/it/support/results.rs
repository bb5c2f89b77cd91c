//! The engine's output, as a consumer reads it.

use std::collections::BTreeMap;

use framepress::internals::wire::proto::ProcessedFrame;
use prost::Message;

/// One entry of the output stream.
#[derive(Clone, Debug)]
pub struct Output {
    pub id: String,
    pub fields: BTreeMap<String, Vec<u8>>,
    pub frame: ProcessedFrame,
}

impl Output {
    pub fn new(id: String, fields: BTreeMap<String, Vec<u8>>) -> Output {
        let data = fields.get("data").expect("a result has data");
        let frame = ProcessedFrame::decode(&data[..]).expect("data is a ProcessedFrame");
        Output { id, fields, frame }
    }

    /// The value of a text field; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        text(&self.fields, name)
    }

    /// Id of the input entry that this result is of.
    pub fn source_id(&self) -> String {
        self.text("source_id")
    }
}

/// One entry of the dead-letter stream.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub fields: BTreeMap<String, Vec<u8>>,
}

impl DeadLetter {
    /// The value of a text field; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        text(&self.fields, name)
    }
}

fn text(fields: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    String::from_utf8_lossy(fields.get(name).map_or(&[], |value| &value[..])).into_owned()
}
