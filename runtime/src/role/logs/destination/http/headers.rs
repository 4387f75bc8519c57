//! A destination's headers, with secrets looked up again when their file changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, TRANSFER_ENCODING,
};
use tokio::sync::Mutex;

use super::super::secrets::{Secrets, Template};

/// How often a file is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Headers as a request takes them.
#[derive(Debug)]
pub(super) struct Ready {
    /// Values that hold secrets are marked sensitive.
    pub(super) map: HeaderMap,
    /// Secrets to take out of messages.
    pub(super) hidden: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Headers {
    fixed: HeaderMap,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    templates: Vec<(HeaderName, Template)>,
    ready: Option<Arc<Ready>>,
    checked: Instant,
    has_files: bool,
}

impl Headers {
    /// Checks names and references; an error names the field and the problem. Looks nothing up:
    /// a credential that is missing today may be there when it is needed.
    pub(super) fn new(
        content_type: &str,
        headers: &BTreeMap<String, String>,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Self, (&'static str, String)> {
        let mut fixed = HeaderMap::new();
        let content_type = HeaderValue::from_str(content_type).map_err(|_| {
            let problem = format!("{content_type:?} cannot stand in a header");
            ("http.contentType", problem)
        })?;
        fixed.insert(CONTENT_TYPE, content_type);
        let mut templates = Vec::new();
        for (name, value) in headers {
            let error = |problem: String| ("http.headers", format!("{name}: {problem}"));
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| error("not a header's name".to_owned()))?;
            if [
                HOST,
                CONTENT_LENGTH,
                CONTENT_ENCODING,
                TRANSFER_ENCODING,
                CONNECTION,
            ]
            .contains(&header)
            {
                return Err(error("set by the daemon; remove it".to_owned()));
            }
            let template = Template::parse(value, secrets).map_err(error)?;
            templates.push((header, template));
        }
        Ok(Self {
            fixed,
            state: Mutex::new(State {
                has_files: templates.iter().any(|(_, template)| template.has_files()),
                templates,
                ready: None,
                checked: Instant::now(),
            }),
        })
    }

    /// The headers, looked up anew if a file changed or after [`Headers::forget`].
    pub(super) async fn current(&self) -> Result<Arc<Ready>, String> {
        let mut state = self.state.lock().await;
        if let Some(ready) = &state.ready
            && (!state.has_files || state.checked.elapsed() < CHECK_EVERY)
        {
            return Ok(Arc::clone(ready));
        }
        state.checked = Instant::now();
        let known = state.ready.take();
        // A copy, so that whatever becomes of this task the credentials are still known.
        let mut templates = state.templates.clone();
        let fixed = self.fixed.clone();
        let looked_up = tokio::task::spawn_blocking(move || {
            let unchanged = known.filter(|_| !templates.iter().any(|(_, text)| text.changed()));
            let ready = match unchanged {
                Some(ready) => Ok(ready),
                None => look_up(fixed, &mut templates).map(Arc::new),
            };
            (templates, ready)
        })
        .await;
        match looked_up {
            Ok((templates, ready)) => {
                state.templates = templates;
                let ready = ready?;
                state.ready = Some(Arc::clone(&ready));
                Ok(ready)
            }
            Err(error) => Err(format!("looking up headers failed: {error}")),
        }
    }

    /// Looks everything up again at the next use: the server did not like the credentials.
    pub(super) async fn forget(&self) {
        self.state.lock().await.ready = None;
    }
}

fn look_up(mut map: HeaderMap, templates: &mut [(HeaderName, Template)]) -> Result<Ready, String> {
    let mut hidden = Vec::new();
    for (name, template) in templates {
        let resolved = template
            .resolve()
            .map_err(|problem| format!("header {name}: {problem}"))?;
        let mut value = HeaderValue::from_str(&resolved.text)
            .map_err(|_| format!("header {name}: its value cannot stand in a header"))?;
        value.set_sensitive(true);
        map.insert(name.clone(), value);
        hidden.extend(resolved.hidden);
    }
    Ok(Ready { map, hidden })
}
