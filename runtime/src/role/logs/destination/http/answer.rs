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
/// The question for a 4xx is whose fault it is. What is wrong with the endpoint, the credentials or
/// the server's load can be mended without the lines changing (401, 403, 404, 405, 407, 408, 410,
/// 421, 425, 429): they wait. What is wrong with the lines themselves stays wrong: dead letters.
pub(in super::super) fn judge(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Accepted,
        413 => Verdict::TooLarge,
        401 | 403 | 404 | 405 | 407 | 408 | 410 | 421 | 425 | 429 => {
            Verdict::Retry(retry_after(headers))
        }
        400..=499 => Verdict::Rejected,
        _ => Verdict::Retry(retry_after(headers)),
    }
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
            301, 307, 401, 403, 404, 408, 425, 429, 500, 502, 503, 504, 599,
        ] {
            assert_eq!(judge(code), Verdict::Retry(None), "{code}");
        }
        for code in [400, 409, 415, 422, 451] {
            assert_eq!(judge(code), Verdict::Rejected, "{code}");
        }
        assert_eq!(judge(413), Verdict::TooLarge);
    }
}
