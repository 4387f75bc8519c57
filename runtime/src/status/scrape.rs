//! What plugins measure, as Prometheus asks for it.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::refusal::failure;
use super::server::Shared;
use crate::role::metrics::{Asked, Format, Target, scrape};

/// Prometheus says in it how long it waits, in seconds.
const TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Of all plugins. Without any it is empty and no error: the target is up.
pub(super) async fn all(State(reporter): State<Shared>, headers: HeaderMap) -> Response {
    answer(reporter.metrics(None), &headers, true)
        .await
        .unwrap_or_else(ending)
}

/// Of one plugin.
pub(super) async fn one(
    State(reporter): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let plugins = reporter.metrics(Some((&namespace, &name)));
    answer(plugins, &headers, false).await.unwrap_or_else(|| {
        failure(
            StatusCode::NOT_FOUND,
            "NotFound",
            &format!(
                "there is no plugin {namespace}/{name} that works and has the role metrics; /v1/plugins lists them"
            ),
        )
    })
}

fn ending() -> Response {
    let code = StatusCode::SERVICE_UNAVAILABLE;
    failure(code, "Ending", "the daemon is ending; scrape again")
}

/// None if it would be of no plugin, unless that is an answer, too.
async fn answer(plugins: Vec<Target>, headers: &HeaderMap, may_be_empty: bool) -> Option<Response> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let format = Format::negotiate(text(header::ACCEPT));
    let asked = Asked {
        format,
        gzip: text(header::ACCEPT_ENCODING).is_some_and(takes_gzip),
        time: text(header::HeaderName::from_static(TIMEOUT)).and_then(seconds),
    };
    let scraped = scrape(plugins, asked).await?;
    if scraped.plugins == 0 && !may_be_empty {
        return None;
    }
    let kind = [(header::CONTENT_TYPE, format.content_type())];
    Some(match scraped.gzip {
        true => (kind, [(header::CONTENT_ENCODING, "gzip")], scraped.body).into_response(),
        false => (kind, scraped.body).into_response(),
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
}

/// Whether `Accept-Encoding` (RFC 9110, section 12.5.3) names gzip and does not refuse it.
fn takes_gzip(accept: &str) -> bool {
    accept.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |q: &str| q.parse::<f32>().is_ok_and(|q| q == 0.0);
        named && !parts.any(|part| part.strip_prefix("q=").is_some_and(refused))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        for (accept, gzip) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accept), gzip, "{accept}");
        }
        assert_eq!(seconds("9.5"), Some(Duration::from_millis(9500)));
        for text in ["0", "-1", "NaN", "inf", "x", "1e300"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
