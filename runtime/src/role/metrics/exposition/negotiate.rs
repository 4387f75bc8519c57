//! Which format an `Accept` header asks for (RFC 9110, section 12.5.1), as Prometheus writes it.

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' protobuf format, delimited.
    Protobuf,
}

impl Format {
    /// What `accept` likes best of the three; text if it likes none, as every exporter does.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let mut best = (0_u32, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(String, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(name, value)| {
                    let value = value.trim().trim_matches('"');
                    (name.trim().to_ascii_lowercase(), value)
                })
                .collect();
            let parameter = |name: &str| {
                let mut parameters = parameters.iter();
                parameters.find_map(|(known, value)| (known == name).then_some(*value))
            };
            let format = match media.as_str() {
                "text/plain" | "text/*" | "*/*"
                    if parameter("version").is_none_or(|version| version == "0.0.4") =>
                {
                    Self::Text
                }
                "application/openmetrics-text"
                    if parameter("version")
                        .is_none_or(|version| matches!(version, "1.0.0" | "0.0.1")) =>
                {
                    Self::OpenMetrics
                }
                "application/vnd.google.protobuf"
                    if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                        && parameter("encoding") == Some("delimited") =>
                {
                    Self::Protobuf
                }
                _ => continue,
            };
            let quality = parameter("q").map_or(Some(1.0), |q| q.parse::<f32>().ok());
            let quality = (quality.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32;
            // The first of equals.
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The media type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_liked_best() {
        // As Prometheus 2.42 and 3 send it, without and with native histograms.
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (Some(protobuf), Format::Protobuf),
            (
                Some("application/openmetrics-text; version=2.0.0"),
                Format::Text,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (
                Some("APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\""),
                Format::OpenMetrics,
            ),
            (Some("application/vnd.google.protobuf"), Format::Text),
            (
                Some("text/plain;q=0.4, application/openmetrics-text;q=0.3"),
                Format::Text,
            ),
            (Some(";;=,,q=,text/plain;q=x"), Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
