//! What an HTTP status means for a delivery.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// Acknowledged.
    Accepted,
    /// Later again; not before the given time has passed.
    Retry(Option<Duration>),
    /// In smaller pieces.
    TooLarge,
    /// Never.
    Rejected,
}

/// Judges an answer.
///
/// The question for a 4xx is whose fault it is. What is wrong with the endpoint, the credentials, the
/// headers or the server's load can be mended without the lines changing (401, 403, 404, 405, 406,
/// 407, 408, 410, 415, 421, 425, 429, 431): they wait. What is wrong with the lines themselves stays
/// wrong: dead letters. See [`is_about_tls`] for a 400 that is not about them.
pub(in super::super) fn judge(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Accepted,
        413 => Verdict::TooLarge,
        401 | 403 | 404 | 405 | 406 | 407 | 408 | 410 | 415 | 421 | 425 | 429 | 431 => {
            Verdict::Retry(retry_after(headers))
        }
        400..=499 => Verdict::Rejected,
        _ => Verdict::Retry(retry_after(headers)),
    }
}

/// Whether an answer 400 is about the connection, not the request: plain HTTP where TLS is spoken, or
/// a client's certificate that is missing or bad.
///
/// Only at the places where servers say so: elsewhere an answer may quote a line that speaks of
/// certificates, and that would be waited for without end.
pub(super) fn is_about_tls(status: StatusCode, body: &[u8]) -> bool {
    if status != StatusCode::BAD_REQUEST {
        return false;
    }
    let body = String::from_utf8_lossy(body);
    // Go's servers; then nginx, and what is built on it.
    if body.starts_with("Client sent an HTTP request to an HTTPS server") {
        return true;
    }
    let title = body.split_once("<title>").map(|(_, after)| after);
    let title = title.and_then(|after| after.split("</title>").next());
    title.is_some_and(|title| {
        title.contains("plain HTTP request was sent to HTTPS") || title.contains("SSL certificate")
    })
}

/// `Retry-After`: seconds or an HTTP date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    let wait = at.duration_since(jiff::Timestamp::now());
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let after = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("17"), Some(Duration::from_secs(17)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let future = after("Sun, 21 Oct 2125 07:28:00 GMT").unwrap();
        assert!(future > Duration::from_secs(86_400));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn every_status_has_a_verdict() {
        let judge = |code| judge(StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
        for code in [200, 202, 204] {
            assert_eq!(judge(code), Verdict::Accepted);
        }
        for code in [
            301, 307, 401, 403, 404, 406, 408, 415, 425, 429, 431, 500, 502, 503, 504, 599,
        ] {
            assert_eq!(judge(code), Verdict::Retry(None), "{code}");
        }
        for code in [400, 409, 422, 451] {
            assert_eq!(judge(code), Verdict::Rejected, "{code}");
        }
        assert_eq!(judge(413), Verdict::TooLarge);
    }

    #[test]
    fn a_bad_request_may_be_about_the_connection() {
        let tls = |body: &str| is_about_tls(StatusCode::BAD_REQUEST, body.as_bytes());
        for body in [
            "Client sent an HTTP request to an HTTPS server.\n",
            "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
            "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>",
            "<html>\r\n<head><title>400 The SSL certificate error</title></head>",
        ] {
            assert!(tls(body), "{body}");
            assert!(!is_about_tls(StatusCode::CONFLICT, body.as_bytes()));
        }
        for body in [
            "",
            "cannot parse line: SSL certificate expired",
            "<title>400 Bad Request</title> no: SSL certificate expired",
        ] {
            assert!(!tls(body), "{body}");
        }
    }
}
