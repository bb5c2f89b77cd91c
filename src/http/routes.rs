//! Routes of the server. All are read-only: only GET and HEAD are answered.

use std::borrow::Cow;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response};

use super::hosts::{HostRefusal, Hosts, RequestOrigin};
use super::{api, exposition};
use crate::base::text;
use crate::config::Secret;
use crate::engine::{EngineView, Plan};
use crate::metrics::clock;

/// The engine counts as dead if a part gives no sign of life for the Redis time-out plus this
/// margin. A part may be silent for one connection attempt.
const SILENCE_MARGIN: Duration = Duration::from_secs(10);

/// How long a healthy engine may give no sign of life.
pub fn silence_max(plan: &Plan) -> Duration {
    plan.timeout + SILENCE_MARGIN
}

/// Reason shown before the engine exists.
const STARTING: &str = "starting: waiting for Redis";

/// Error for a `Host` that is not a name of this server.
const STRANGE_HOST: &str = "only addresses, localhost and the names in stats.hosts are answered";

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// The dashboard may load only its own two files, and show pictures that it fetched itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Headers of every answer.
const SECURITY: [(&str, &str); 6] = [
    ("Content-Security-Policy", POLICY),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// An answer to a client.
#[derive(Debug)]
pub(super) struct HttpAnswer {
    status: u16,
    kind: &'static str,
    body: Bytes,
    headers: Vec<(&'static str, String)>,
}

impl HttpAnswer {
    pub(super) fn new(status: u16, kind: &'static str, body: impl Into<Bytes>) -> HttpAnswer {
        HttpAnswer { status, kind, body: body.into(), headers: Vec::new() }
    }

    pub(super) fn page(kind: &'static str, text: &'static str) -> HttpAnswer {
        HttpAnswer::new(200, kind, text)
    }

    pub(super) fn json(value: &Value) -> HttpAnswer {
        HttpAnswer::new(200, JSON, text::json(&value.to_string()).into_owned())
    }

    pub(super) fn error(status: u16, why: &str) -> HttpAnswer {
        HttpAnswer { status, ..HttpAnswer::json(&json!({ "error": why })) }
    }

    /// A plain-text answer.
    pub(super) fn lines(status: u16, lines: impl IntoIterator<Item = String>) -> HttpAnswer {
        let lines: String = lines.into_iter().map(|line| text::line(&line) + "\n").collect();
        HttpAnswer::new(status, TEXT, lines)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> HttpAnswer {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response<Cursor<Bytes>> {
        // The library would use the system clock, without the checks of this one.
        let date = httpdate::fmt_http_date(clock::calendar_time());
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = SECURITY
            .into_iter()
            .chain([("Content-Type", self.kind), ("Server", "framepress"), ("Date", &date)])
            .chain(own)
            .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
            .collect();
        let len = self.body.len();
        Response::new(self.status.into(), headers, Cursor::new(self.body), Some(len), None)
            .with_chunked_threshold(usize::MAX)
    }
}

/// The routes of a site, with its access rules.
pub(super) struct HttpRoutes {
    site: Box<dyn Site>,
    token: Option<Secret>,
    hosts: Hosts,
}

/// The contents of a server.
pub(super) trait Site: Send {
    /// Answers that contain no figures and need no token.
    fn open(&self, segments: &[&str]) -> Option<HttpAnswer>;

    /// All other answers.
    fn guarded(&self, request: &Request, segments: &[&str]) -> HttpAnswer;
}

impl HttpRoutes {
    pub(super) fn new(site: Box<dyn Site>, token: Option<Secret>, hosts: Hosts) -> HttpRoutes {
        HttpRoutes { site, token, hosts }
    }

    pub(super) fn answer(&self, request: &Request) -> HttpAnswer {
        let asking = RequestOrigin {
            target: request.url(),
            host: header(request, "Host"),
            origin: header(request, "Origin"),
            fetch_site: header(request, "Sec-Fetch-Site"),
            fetch_mode: header(request, "Sec-Fetch-Mode"),
        };
        match self.hosts.refuses(&asking) {
            Some(HostRefusal::Host) => return HttpAnswer::error(421, STRANGE_HOST),
            Some(HostRefusal::Page) => {
                return HttpAnswer::error(403, "the request comes from a page of another server");
            }
            None => {}
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return HttpAnswer::error(405, "only GET and HEAD are answered")
                .with("Allow", "GET, HEAD");
        }
        let Some(segments) = segments_of(request.url()) else { return not_found() };
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        if let Some(answer) = self.site.open(&segments) {
            return answer;
        }
        if !self.is_allowed(request) {
            return HttpAnswer::error(401, "a bearer token is needed")
                .with("WWW-Authenticate", "Bearer realm=\"framepress\"");
        }
        self.site.guarded(request, &segments)
    }

    fn is_allowed(&self, request: &Request) -> bool {
        let Some(token) = &self.token else { return true };
        let given = header(request, "Authorization").and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("bearer")
                && constant_time_eq::constant_time_eq(
                    given.trim().as_bytes(),
                    token.expose().as_bytes(),
                )
        })
    }
}

/// The site of the engine.
#[derive(Debug)]
pub(super) struct EngineSite {
    /// Set once the engine exists.
    pub(super) view: Arc<OnceLock<EngineView>>,
}

impl Site for EngineSite {
    // The page that asks for the token must itself be open.
    fn open(&self, segments: &[&str]) -> Option<HttpAnswer> {
        match *segments {
            ["livez"] => Some(self.livez()),
            ["readyz"] => Some(self.readyz()),
            [""] => {
                Some(HttpAnswer::page("text/html; charset=utf-8", include_str!("page/index.html")))
            }
            ["assets", "page.css"] => {
                Some(HttpAnswer::page("text/css; charset=utf-8", include_str!("page/page.css")))
            }
            ["assets", "page.js"] => Some(HttpAnswer::page(
                "text/javascript; charset=utf-8",
                include_str!("page/page.js"),
            )),
            _ => None,
        }
    }

    fn guarded(&self, request: &Request, segments: &[&str]) -> HttpAnswer {
        let Some(view) = self.view.get() else {
            return HttpAnswer::error(503, STARTING).with("Retry-After", "1");
        };
        match *segments {
            ["metrics"] => match exposition::page(view) {
                Ok(page) => HttpAnswer::new(200, exposition::CONTENT_TYPE, page),
                Err(error) => HttpAnswer::error(500, &error.to_string()),
            },
            ["api", "v1", "system", "metrics"] => HttpAnswer::json(&api::metrics_json(view)),
            ["api", "v1", "dead-letters"] => HttpAnswer::json(&api::dead_letters_json(view)),
            ["api", "v1", "history"] => HttpAnswer::json(&api::history_json(view)),
            ["api", "v1", "cameras"] => HttpAnswer::json(&api::cameras_json(view)),
            ["api", "v1", "cameras", id] => match api::camera_json(view, id) {
                Some(camera) => HttpAnswer::json(&camera),
                None => HttpAnswer::error(404, "no frame of this camera has been seen"),
            },
            ["api", "v1", "cameras", id, "latest.jpg"] => picture(view, request, id),
            _ => not_found(),
        }
    }
}

impl EngineSite {
    fn livez(&self) -> HttpAnswer {
        let silence = self.view.get().and_then(|view| {
            let silence = view.metrics.health.silence();
            (silence > silence_max(&view.plan)).then_some(silence)
        });
        match silence {
            Some(silence) => {
                HttpAnswer::lines(503, [format!("no sign of life for {} s", silence.as_secs())])
            }
            None => HttpAnswer::lines(200, ["ok".to_owned()]),
        }
    }

    fn readyz(&self) -> HttpAnswer {
        let why = self.view.get().map_or_else(|| Some(STARTING.to_owned()), api::unready);
        match why {
            Some(why) => HttpAnswer::lines(503, [why]),
            None => {
                let remarks = self.view.get().map(api::remarks).unwrap_or_default();
                HttpAnswer::lines(200, std::iter::once("ok".to_owned()).chain(remarks))
            }
        }
    }
}

fn picture(view: &EngineView, request: &Request, id: &str) -> HttpAnswer {
    match view.cameras.photo(id) {
        None => HttpAnswer::error(404, "no frame of this camera has been seen"),
        // A page that polls does not want an error.
        Some(None) if request.url().ends_with("?missing=204") => {
            HttpAnswer::new(204, JSON, Bytes::new())
        }
        Some(None) => HttpAnswer::error(
            404,
            "no picture yet; the engine keeps one from the camera's next frame on, while clients \
             ask for it",
        )
        .with("Retry-After", "1"),
        Some(Some(photo)) => {
            let tag = format!("\"{:x}-{:x}\"", photo.taken_ms, photo.jpeg.len());
            let is_known = header(request, "If-None-Match").is_some_and(|known| known == tag);
            let answer = if is_known {
                HttpAnswer::new(304, "image/jpeg", Bytes::new())
            } else {
                HttpAnswer::new(200, "image/jpeg", photo.jpeg)
            };
            answer.with("ETag", tag)
        }
    }
}

pub(super) fn not_found() -> HttpAnswer {
    HttpAnswer::error(404, "not found")
}

fn header<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

/// The segments of a path, decoded individually, so that an encoded slash stays part of a name.
/// Nothing here is a file, so dots have no meaning.
fn segments_of(url: &str) -> Option<Vec<Cow<'_, str>>> {
    // The absolute form, as sent by proxies, also names the server.
    let path = match url.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => url,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let decode = |part| percent_encoding::percent_decode_str(part).decode_utf8().ok();
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(url: &str) -> Option<Vec<String>> {
        segments_of(url).map(|parts| parts.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn a_path_is_taken_apart_before_it_is_decoded() {
        assert_eq!(segments("/api/a%2Fb?x=/y#z").unwrap(), ["api", "a/b"]);
        assert_eq!(segments("/").unwrap(), [""]);
        assert_eq!(segments("http://host:1/livez").unwrap(), ["livez"]);
        assert_eq!(segments("/../%2e%2e/etc").unwrap(), ["..", "..", "etc"]);
        assert_eq!(segments("/%ff"), None, "not UTF-8");
    }
}
