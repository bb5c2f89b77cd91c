//! Builds requests: the text in one reused buffer, large payloads borrowed and sent by vectored
//! writes, so that no payload is copied into a second buffer.

use std::io::{self, IoSlice, Write};

use smallvec::SmallVec;

/// Maximum slices per system call; well below the operating system's limit of 1,024.
const SLICES_MAX: usize = 64;

/// One or more commands, in order. Payloads are passed to [`Request::write_to`] in the order of
/// their places in the text.
#[derive(Debug, Default)]
pub(in crate::redis) struct Request {
    text: Vec<u8>,
    /// Offsets in `text` at which the payloads belong.
    cuts: Vec<usize>,
    /// Whether [`ANNOUNCEMENT`] precedes each command.
    asking: bool,
}

/// Tells a Cluster node, before a command, that another node redirected us here. Contains CLIENT
/// REPLY SKIP, so that ASKING produces no reply among those of the commands, and ASKING.
const ANNOUNCEMENT: &[u8] =
    b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n*1\r\n$6\r\nASKING\r\n";

impl Request {
    /// An empty request; with `asking`, [`ANNOUNCEMENT`] precedes each of its commands.
    pub(in crate::redis) fn new(asking: bool) -> Request {
        Request { asking, ..Request::default() }
    }

    pub(in crate::redis) fn clear(&mut self) {
        self.text.clear();
        self.cuts.clear();
    }

    /// Begins a command of `count` arguments, its name included.
    pub(in crate::redis) fn command(&mut self, count: usize) -> &mut Self {
        self.announce();
        self.length(b'*', count);
        self
    }

    /// Adds a whole packed command.
    pub(in crate::redis) fn packed(&mut self, command: &[u8]) -> &mut Self {
        self.announce();
        self.text.extend_from_slice(command);
        self
    }

    fn announce(&mut self) {
        if self.asking {
            self.text.extend_from_slice(ANNOUNCEMENT);
        }
    }

    pub(in crate::redis) fn arg(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        pack(bytes.as_ref(), &mut self.text);
        self
    }

    /// Adds packed arguments; see [`pack`].
    pub(in crate::redis) fn packed_args(&mut self, args: &[u8]) -> &mut Self {
        self.text.extend_from_slice(args);
        self
    }

    /// Adds an argument as printed text.
    pub(in crate::redis) fn number(&mut self, value: impl std::fmt::Display) -> &mut Self {
        let mut digits = SmallVec::<[u8; 48]>::new();
        // Writing to memory cannot fail.
        let _ = write!(digits, "{value}");
        self.arg(digits)
    }

    /// Reserves the place of a payload of `len` bytes, which is sent without a copy.
    pub(in crate::redis) fn payload(&mut self, len: usize) -> &mut Self {
        self.length(b'$', len);
        self.cuts.push(self.text.len());
        self.text.extend_from_slice(b"\r\n");
        self
    }

    pub(in crate::redis) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Writes everything, with the payloads in their places.
    pub(super) fn write_to(&self, io: &mut impl Write, payloads: &[&[u8]]) -> io::Result<()> {
        debug_assert_eq!(payloads.len(), self.cuts.len());
        let mut slices: SmallVec<[IoSlice<'_>; SLICES_MAX]> = SmallVec::new();
        let mut from = 0;
        for (&cut, payload) in self.cuts.iter().zip(payloads) {
            slices.push(IoSlice::new(&self.text[from..cut]));
            slices.push(IoSlice::new(payload));
            from = cut;
            if slices.len() + 2 > SLICES_MAX {
                write_all(io, &mut slices)?;
                slices.clear();
            }
        }
        slices.push(IoSlice::new(&self.text[from..]));
        write_all(io, &mut slices)
    }

    /// Continues writing from byte `written` of the whole request, and advances it. After an error
    /// the next call continues with the rest.
    pub(super) fn write_on(
        &self,
        payloads: &[&[u8]],
        written: &mut usize,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        debug_assert_eq!(payloads.len(), self.cuts.len());
        let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        let mut from = 0;
        for (&cut, payload) in self.cuts.iter().zip(payloads) {
            slices.push(IoSlice::new(&self.text[from..cut]));
            slices.push(IoSlice::new(payload));
            from = cut;
        }
        slices.push(IoSlice::new(&self.text[from..]));
        let mut rest: &mut [IoSlice<'_>] = &mut slices;
        IoSlice::advance_slices(&mut rest, *written);
        while !rest.is_empty() {
            match write(&rest[..rest.len().min(SLICES_MAX)])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => {
                    *written += more;
                    IoSlice::advance_slices(&mut rest, more);
                }
            }
        }
        Ok(())
    }

    fn length(&mut self, kind: u8, len: usize) {
        length(&mut self.text, kind, len);
    }
}

/// Packs an argument for [`Request::packed_args`].
pub(in crate::redis) fn pack(arg: &[u8], into: &mut Vec<u8>) {
    length(into, b'$', arg.len());
    into.extend_from_slice(arg);
    into.extend_from_slice(b"\r\n");
}

fn length(text: &mut Vec<u8>, kind: u8, len: usize) {
    text.push(kind);
    // Writing to memory cannot fail.
    let _ = write!(text, "{len}\r\n");
}

fn write_all(io: &mut impl Write, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut rest = slices;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match io.write_vectored(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most three bytes at a time.
    struct Narrow(Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..len]);
            Ok(len)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_command_to_a_node_that_was_named_by_another_is_announced() {
        let mut request = Request::new(true);
        request.command(1).arg("PING").command(1).arg("PING");
        let text = String::from_utf8(request.text().to_vec()).unwrap();
        let words: Vec<&str> =
            text.split("\r\n").filter(|word| word.starts_with(char::is_alphabetic)).collect();
        let announced = ["CLIENT", "REPLY", "SKIP", "ASKING", "PING"];
        assert_eq!(words, [announced, announced].concat());
    }

    #[test]
    fn payloads_stand_where_they_belong_however_the_socket_cuts() {
        let mut request = Request::default();
        let payloads: Vec<Vec<u8>> = (0..80).map(|len| vec![b'x'; len]).collect();
        let mut expected = Vec::new();
        for payload in &payloads {
            request.command(3).arg("SET").number(payload.len()).payload(payload.len());
            expected.extend(
                format!("*3\r\n$3\r\nSET\r\n${}\r\n", payload.len().to_string().len()).bytes(),
            );
            expected.extend(format!("{}\r\n${}\r\n", payload.len(), payload.len()).bytes());
            expected.extend(payload);
            expected.extend(b"\r\n");
        }
        let borrowed: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let mut narrow = Narrow(Vec::new());
        request.write_to(&mut narrow, &borrowed).unwrap();
        assert_eq!(narrow.0, expected);
    }
}
