//! MJPEG over HTTP: one request, then JPEG files until the camera disconnects.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use md5::{Digest, Md5};
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use super::link_end::{LinkEnd, LinkFinding, Loss};
use super::mjpeg::Splitter;
use super::source::authority;
use crate::base::Stop;
use crate::camera::{Coding, Still};
use crate::metrics::clock::{Tick, unix_nanos, unix_seconds};

/// Longest head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How often the stop signal is checked.
const TICK: Duration = Duration::from_millis(100);
/// Maximum number of requests: a camera may ask for a login and redirect.
const QUESTIONS_MAX: usize = 6;

/// An open stream of JPEG files.
#[derive(Debug)]
pub(super) struct Web {
    stream: TcpStream,
    stop: Stop,
    splitter: Splitter,
    chunks: Option<Chunks>,
    broken: u64,
    shown: String,
    began: f64,
    fed: bool,
}

impl Web {
    /// Requests the stream.
    pub(super) fn open(url: &str, shown: &str, until: Tick, stop: &Stop) -> Result<Web, LinkEnd> {
        let unknown = || LinkEnd::Found(LinkFinding::NotWeb);
        let mut url = Url::parse(url).map_err(|_| unknown())?;
        let mut authorization = None;
        for _ in 0..QUESTIONS_MAX {
            let mut stream = connect(&url, shown, until, stop)?;
            let head = ask(&mut stream, &url, authorization.as_deref(), shown, until, stop)?;
            match head.status {
                200 if head.is_jpeg() => {
                    let mut web = Web {
                        stream,
                        stop: stop.clone(),
                        splitter: Splitter::default(),
                        chunks: head.chunked.then(Chunks::default),
                        broken: 0,
                        shown: shown.into(),
                        began: unix_seconds(),
                        fed: false,
                    };
                    web.take(&head.rest)?;
                    return Ok(web);
                }
                200 => return Err(unknown()),
                301 | 302 | 303 | 307 | 308 => {
                    let to = head.location.as_deref().and_then(|to| url.join(to).ok());
                    let mut next = to.filter(|to| to.scheme() == "http").ok_or_else(unknown)?;
                    // Another server must not receive this camera's password.
                    if !has_account(&next) && authority(&next) == authority(&url) {
                        let _ = next.set_username(url.username());
                        let _ = next.set_password(url.password());
                    }
                    (url, authorization) = (next, None);
                }
                401 if authorization.is_none() && has_account(&url) => {
                    authorization = head.challenge.as_deref().and_then(|asked| answer(asked, &url));
                    if authorization.is_none() {
                        let text =
                            "the camera asks for an authentication method that is not supported";
                        return Err(Loss::new("auth", text).into());
                    }
                }
                401 | 403 => {
                    let text = format!("{shown}: {} (user or password)", head.status);
                    return Err(Loss::new("auth", text).into());
                }
                status => {
                    return Err(Loss::new("ended", format!("{shown}: status {status}")).into());
                }
            }
        }
        Err(Loss::new("ended", format!("{shown}: too many redirections")).into())
    }

    pub(super) fn take_broken(&mut self) -> u64 {
        let now = self.splitter.broken();
        let new = now - self.broken;
        self.broken = now;
        new
    }

    pub(super) fn next(&mut self, still: &mut Still, until: Tick) -> Result<f64, LinkEnd> {
        loop {
            if let Some(about) = self.splitter.next(&mut still.bytes) {
                (still.width, still.height, still.channels) = (about.width, about.height, 3);
                still.coding = Coding::File;
                self.fed = false;
                return Ok(self.began);
            }
            let mut bytes = [0; 32 << 10];
            let count = read(&mut self.stream, &mut bytes, &self.shown, until, &self.stop)?;
            if count == 0 {
                return Err(Loss::new(
                    "ended",
                    format!("{}: the camera has ended the stream", self.shown),
                )
                .into());
            }
            self.take(&bytes[..count])?;
        }
    }

    /// Takes bytes of the body. The capture time of a picture is the arrival of its first bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<(), LinkEnd> {
        if !self.fed && !bytes.is_empty() {
            (self.began, self.fed) = (unix_seconds(), true);
        }
        match &mut self.chunks {
            None => self.splitter.feed(bytes),
            Some(chunks) => {
                let splitter = &mut self.splitter;
                if !chunks.take(bytes, |part| splitter.feed(part)) {
                    return Err(Loss::new(
                        "ended",
                        format!("{}: the stream has ended", self.shown),
                    )
                    .into());
                }
            }
        }
        Ok(())
    }
}

fn connect(url: &Url, shown: &str, until: Tick, stop: &Stop) -> Result<TcpStream, LinkEnd> {
    let failed = |error: io::Error| -> LinkEnd {
        Loss::new("unreachable", format!("{shown}: {error}")).into()
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    let place = authority(url).unwrap_or_default();
    for target in place.to_socket_addrs().map_err(failed)? {
        let left = until.remaining().max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&target, left.min(Duration::from_secs(5))) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TICK)).map_err(failed)?;
                stream.set_write_timeout(Some(TICK * 20)).map_err(failed)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
        if stop.is_draining() {
            break;
        }
    }
    Err(failed(last))
}

/// Reads once; 0 means the end, or the stop signal. The deadline also applies to a camera that
/// sends without pause.
fn read(
    stream: &mut TcpStream,
    bytes: &mut [u8],
    shown: &str,
    until: Tick,
    stop: &Stop,
) -> Result<usize, LinkEnd> {
    loop {
        if stop.is_draining() {
            return Ok(0);
        }
        if until.remaining().is_zero() {
            return Err(Loss::new("timeout", "no picture arrived in time").into());
        }
        match stream.read(bytes) {
            Ok(count) => return Ok(count),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut => {}
                _ => return Err(Loss::new("unreachable", format!("{shown}: {error}")).into()),
            },
        }
    }
}

/// The relevant parts of a response.
#[derive(Debug, Default)]
struct HttpHead {
    status: u16,
    kind: String,
    chunked: bool,
    location: Option<String>,
    challenge: Option<String>,
    rest: Vec<u8>,
}

impl HttpHead {
    fn is_jpeg(&self) -> bool {
        let kind = self.kind.to_ascii_lowercase();
        ["multipart/", "image/jpeg", "image/jpg", "video/x-motion-jpeg", "video/mjpeg"]
            .iter()
            .any(|known| kind.starts_with(known))
    }
}

fn ask(
    stream: &mut TcpStream,
    url: &Url,
    authorization: Option<&str>,
    shown: &str,
    until: Tick,
    stop: &Stop,
) -> Result<HttpHead, LinkEnd> {
    let (target, place) = (target(url), &url[Position::BeforeHost..Position::AfterPort]);
    let authorization =
        authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: framepress\r\n\
         Accept: */*\r\n{authorization}Connection: close\r\n\r\n"
    );
    let lost = |text: String| -> LinkEnd { Loss::new("ended", format!("{shown}: {text}")).into() };
    stream.write_all(request.as_bytes()).map_err(|error| lost(error.to_string()))?;
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&bytes) {
            Ok(httparse::Status::Complete(end)) => {
                let mut head = HttpHead { status: answer.code.unwrap_or(0), ..HttpHead::default() };
                for header in answer.headers.iter() {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    match header.name.to_ascii_lowercase().as_str() {
                        "content-type" => head.kind = value,
                        "transfer-encoding" => {
                            head.chunked = value.to_ascii_lowercase().contains("chunked");
                        }
                        "location" => head.location = Some(value),
                        // If a camera offers both schemes, prefer digest.
                        "www-authenticate"
                            if head.challenge.is_none()
                                || value.to_ascii_lowercase().starts_with("digest") =>
                        {
                            head.challenge = Some(value);
                        }
                        _ => {}
                    }
                }
                head.rest = bytes.split_off(end);
                return Ok(head);
            }
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) => {
                return Err(lost("the header of its answer is too long".into()));
            }
            Err(error) => return Err(lost(format!("its answer is not HTTP: {error}"))),
        }
        let mut part = [0; 2048];
        let count = read(stream, &mut part, shown, until, stop)?;
        if count == 0 {
            return Err(lost("no answer".into()));
        }
        bytes.extend_from_slice(&part[..count]);
    }
}

/// Value of `Authorization` that answers a challenge (RFC 7617, RFC 7616 with MD5).
fn answer(challenge: &str, url: &Url) -> Option<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    let (scheme, fields) = challenge.split_once(' ').unwrap_or((challenge, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        let text = base64_simd::STANDARD.encode_to_string(format!("{user}:{password}"));
        return Some(format!("Basic {text}"));
    }
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let field = |name: &str| {
        let mut rest = fields;
        while let Some((key, behind)) = rest.split_once('=') {
            let (value, next) = match behind.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => behind.split_once(',').unwrap_or((behind, "")),
            };
            if key.trim().trim_start_matches(',').trim().eq_ignore_ascii_case(name) {
                return Some(value.trim());
            }
            rest = next;
        }
        None
    };
    let (realm, nonce) = (field("realm")?, field("nonce")?);
    if field("algorithm").is_some_and(|name| !name.eq_ignore_ascii_case("md5")) {
        return None;
    }
    let md5 = |text: String| -> String {
        Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let target = target(url);
    let first = md5(format!("{user}:{realm}:{password}"));
    let second = md5(format!("GET:{target}"));
    let takes_auth =
        field("qop").is_some_and(|qop| qop.split(',').any(|word| word.trim() == "auth"));
    let opaque = field("opaque").map(|text| format!(", opaque=\"{text}\"")).unwrap_or_default();
    let (response, more) = if takes_auth {
        let cnonce = md5(unix_nanos().to_string());
        let response = md5(format!("{first}:{nonce}:00000001:{cnonce}:auth:{second}"));
        (response, format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""))
    } else {
        (md5(format!("{first}:{nonce}:{second}")), String::new())
    };
    Some(format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{target}\", \
         response=\"{response}\"{opaque}{more}"
    ))
}

fn has_account(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The request target.
fn target(url: &Url) -> &str {
    &url[Position::BeforePath..Position::AfterQuery]
}

/// Decoder of a chunked body.
#[derive(Debug, Default)]
struct Chunks {
    left: u64,
    line: Vec<u8>,
}

impl Chunks {
    /// Passes the data in `bytes` on; `false` means the end of the body, or a malformed chunk.
    fn take(&mut self, mut bytes: &[u8], mut hand_on: impl FnMut(&[u8])) -> bool {
        while let Some(&first) = bytes.first() {
            if self.left > 0 {
                let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                hand_on(&bytes[..count]);
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            bytes = &bytes[1..];
            if first != b'\n' {
                self.line.push(first);
                if self.line.len() > 256 {
                    return false;
                }
                continue;
            }
            let text = String::from_utf8_lossy(&self.line);
            let size = text.split(';').next().unwrap_or_default().trim().to_owned();
            self.line.clear();
            if size.is_empty() {
                continue; // line end after a chunk
            }
            match u64::from_str_radix(&size, 16) {
                Ok(0) | Err(_) => return false,
                Ok(size) => self.left = size,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn chunks_are_taken_apart_however_they_come() {
        let body = b"5;x=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        for step in [1, 2, 5, body.len()] {
            let (mut chunks, mut out, mut open) = (Chunks::default(), Vec::new(), true);
            for part in body.chunks(step) {
                open = open && chunks.take(part, |data| out.extend_from_slice(data));
            }
            assert!(!open && out == b"hello world", "{step}: {out:?}");
        }
        assert!(!Chunks::default().take(b"xyz\r\n", |_| {}));
    }

    fn camera() -> (TcpListener, String) {
        let camera = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = camera.local_addr().unwrap().to_string();
        (camera, place)
    }

    /// Sends `answers` one after the other, one per connection; returns the requests.
    fn serve(camera: &TcpListener, answers: &[&str]) -> Vec<String> {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = camera.accept().unwrap();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            asked.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    }

    const JPEG: &str = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n";
    const LOGIN: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";

    fn moved(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n")
    }

    fn open(url: &str) -> Result<Web, LinkEnd> {
        Web::open(url, "a camera", Tick::now().after(Duration::from_secs(10)), &Stop::default())
    }

    #[test]
    fn another_server_gets_no_password() {
        let ((this, place), (other, elsewhere)) = (camera(), camera());
        let moved = moved(&format!("http://{elsewhere}/x"));
        // Redirects at once, and after a login.
        for answers in [&[&moved[..]][..], &[LOGIN, &moved[..]]] {
            let asked = thread::scope(|scope| {
                scope.spawn(|| serve(&this, answers));
                let asked = scope.spawn(|| serve(&other, &[LOGIN]));
                let lost = open(&format!("http://admin:secret@{place}/")).unwrap_err();
                assert!(matches!(&lost, LinkEnd::Lost(loss) if loss.reason == "auth"), "{lost:?}");
                asked.join().unwrap().concat()
            });
            assert!(!asked.contains("Authorization"), "{asked}");
        }
    }

    #[test]
    fn a_camera_moves_its_stream_within_itself() {
        let (this, place) = camera();
        let asked = thread::scope(|scope| {
            let asked = scope.spawn(|| serve(&this, &[&moved("video?n=1")[..], LOGIN, JPEG]));
            assert!(open(&format!("http://admin:secret@{place}/live/")).is_ok());
            asked.join().unwrap()
        });
        assert!(asked[0].starts_with("GET /live/ HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[1].starts_with("GET /live/video?n=1 HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[2].contains("Authorization: Basic YWRtaW46c2VjcmV0\r\n"), "{asked:?}");
    }

    #[test]
    fn challenges_are_answered_as_the_standard_shows() {
        let mut url = Url::parse("http://Mufasa:Circle%20of%20Life@host/dir/index.html").unwrap();
        let asked =
            "Digest realm=\"http-auth@example.org\", nonce=\"n\", opaque=\"o\", algorithm=MD5";
        let said = answer(asked, &url).unwrap();
        assert!(said.contains("username=\"Mufasa\"") && said.contains("opaque=\"o\""), "{said}");
        // RFC 2069, with the correction of its errata.
        let asked =
            "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        url.set_password(Some("CircleOfLife")).unwrap();
        let said = answer(asked, &url).unwrap();
        assert!(said.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{said}");
        assert!(answer("Basic realm=\"x\"", &url).unwrap().starts_with("Basic TXVm"));
        assert!(answer("Negotiate", &url).is_none());
    }
}
