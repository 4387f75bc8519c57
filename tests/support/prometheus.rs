//! A real Prometheus, Debian's, that takes remote write.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{PATIENCE, wait_for};

/// A running server. Ends with its value.
pub struct Prometheus {
    pub address: SocketAddr,
    child: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A series by its labels, without those that tell apart how it came.
pub type Series = BTreeMap<String, String>;

impl Prometheus {
    /// Starts one that listens there, keeps its data in `folder`, and scrapes `target` if there is one.
    pub fn start(address: SocketAddr, folder: &Path, scrape: Option<(SocketAddr, &str)>) -> Self {
        let config = match scrape {
            None => String::new(),
            Some((target, path)) => format!(
                "scrape_configs: [{{job_name: scraped, scrape_interval: 1s, metrics_path: {path}, static_configs: [{{targets: ['{target}']}}]}}]\n"
            ),
        };
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package prometheus, which `make setup` installs");
        let server = Self { address, child };
        wait_for("Prometheus", || server.get("/-/ready"));
        server
    }

    /// Where it takes remote write.
    pub fn url(address: SocketAddr) -> String {
        format!("http://{address}/api/v1/write")
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200").then(|| body.to_owned())
    }

    /// What a query finds now.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = self.get(&format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&body.expect(query)).unwrap();
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// The series of a job that have a value now, and the values.
    pub fn job(&self, job: &str) -> BTreeMap<Series, f64> {
        let found = self.query(&format!("{{job=\"{job}\"}}"));
        let series = found.iter().map(|one| {
            let labels = one["metric"].as_object().unwrap();
            let labels = labels.iter().map(|(name, value)| {
                let value = value.as_str().unwrap();
                (name.clone(), value.to_owned())
            });
            let value = one["value"][1].as_str().unwrap();
            (labels.collect(), value.parse().unwrap())
        });
        series.collect()
    }

    /// The samples of the last hour of the one series that a selector means: times in milliseconds since
    /// 1970, and values. The end of a series is none.
    pub fn samples(&self, selector: &str) -> Vec<(i64, f64)> {
        let found = self.query(&format!("{selector}[1h]"));
        assert!(found.len() <= 1, "{found:#?}");
        let samples = found.first().map(|one| one["values"].as_array().unwrap());
        let samples = samples.into_iter().flatten().map(|sample| {
            let seconds = sample[0].as_f64().unwrap();
            let value = sample[1].as_str().unwrap().parse().unwrap();
            ((seconds * 1000.0).round() as i64, value)
        });
        samples.collect()
    }
}
