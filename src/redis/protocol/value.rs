//! Reads answers of any shape as a whole, for commands that are not hot. The `redis` crate converts
//! them.

use redis::{Cmd, Value};

use super::connection::{Connection, text};
use super::resp::{RespHeader, Trouble};
use crate::base::Fault;

/// Maximum nesting of an answer; XINFO STREAM FULL has 5.
const DEPTH_MAX: usize = 16;

impl Connection {
    /// Sends a command and reads its answer of any shape.
    ///
    /// # Errors
    /// [`Fault::Refused`] if the answer is or contains an error; the connection is then still
    /// usable.
    pub(in crate::redis) fn query(
        &mut self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<Value, Fault> {
        let mut request = self.request();
        request.packed(&command.get_packed_command());
        self.send(&request, &[])?;
        let mut refusal = None;
        let value = self.value(DEPTH_MAX, &mut refusal)?;
        self.answered = true;
        match refusal {
            Some(message) => Err(self.refused(name, message)),
            None => Ok(value),
        }
    }

    /// Sends several commands in one round trip and receives their answers.
    ///
    /// # Errors
    /// [`Fault::Connection`]. A refused command has its refusal as its answer.
    pub(in crate::redis) fn query_all(
        &mut self,
        commands: &[(&'static str, Cmd)],
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut request = self.request();
        for (_, command) in commands {
            request.packed(&command.get_packed_command());
        }
        self.send(&request, &[])?;
        let mut answers = Vec::with_capacity(commands.len());
        for (name, _) in commands {
            let mut refusal = None;
            let value = self.value(DEPTH_MAX, &mut refusal)?;
            self.answered = true;
            answers.push(match refusal {
                Some(message) => Err(self.refused(name, message)),
                None => Ok(value),
            });
        }
        Ok(answers)
    }

    fn value(&mut self, depth: usize, refusal: &mut Option<String>) -> Result<Value, Fault> {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(self.fault(Trouble::Protocol("an answer nested too deeply")));
        };
        let count = match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Int(number)) => return Ok(Value::Int(number)),
            Ok(RespHeader::Nil) => return Ok(Value::Nil),
            Ok(RespHeader::Simple(b"OK")) => return Ok(Value::Okay),
            Ok(RespHeader::Simple(status)) => return Ok(Value::SimpleString(text(status))),
            Ok(RespHeader::Error(message)) => {
                let message = text(message);
                refusal.get_or_insert(message);
                return Ok(Value::Nil);
            }
            Ok(RespHeader::Bulk(len)) => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
                self.read_into(&mut bytes)?;
                return Ok(Value::BulkString(bytes));
            }
            Ok(RespHeader::Array(count)) => count,
            Err(trouble) => return Err(self.fault(trouble)),
        };
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(deeper, refusal)?);
        }
        Ok(Value::Array(values))
    }
}
