//! What Prometheus sees: one registry, every name with the prefix `hamaster_elect_`, nearly every one with the label
//! `group`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::event::Count;
use super::instant::Instant;
use super::status::Status;

/// Every value of [`Status::state`]: the series of the others must show 0, not vanish.
const STATES: [&str; 11] = [
    "cleaning",
    "idle",
    "queued",
    "head",
    "adopting",
    "installing",
    "leading",
    "fencing",
    "fenced",
    "releasing",
    "ended",
];

/// The MIME type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    group: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    group: String,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trigger {
    group: String,
    trigger: &'static str,
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Manifest {
    group: String,
    sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    op: String,
    code: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Buckets of a histogram; a type and not a function, so that a family of it has a name.
#[derive(Debug, Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms = Family<Group, Histogram, Buckets>;

/// A transaction in one datacentre takes milliseconds; an attempt is given up after a second or so.
const ROUND_TRIP: Buckets = Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]);
/// Removing a file takes a millisecond, a pod's grace period half a minute.
const STOPPING: Buckets = Buckets(&[0.005, 0.05, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    state: Family<InState, Gauge>,
    is_leader: Family<Group, Gauge>,
    token: Family<Group, Gauge>,
    transitions: Family<Cause, Counter>,
    lease_remaining: Family<Group, Seconds>,
    keepalive: Histograms,
    keepalive_failures: Family<Group, Counter>,
    fences: Family<Trigger, Counter>,
    fence: Histograms,
    payload_stop: Histograms,
    takeover_delay: Histograms,
    suspicious: Family<Group, Counter>,
    overlap_risk: Family<Group, Counter<f64, AtomicU64>>,
    queue_position: Family<Group, Gauge>,
    candidates: Family<Group, Gauge>,
    eligible: Family<Group, Gauge>,
    standby_ready: Family<Group, Gauge>,
    manifest_sync: Family<Group, Counter>,
    manifest_hash: Family<Manifest, Gauge>,
    source_invalid: Family<Group, Gauge>,
    clock_anomaly: Family<Group, Counter>,
    unfenced: Family<Group, Gauge>,
    flapping: Family<Group, Gauge>,
    store_requests: Family<Request, Counter>,
    lease_safe: Gauge,
    cert_expiry: Seconds,
}

impl Metrics {
    /// All metrics of these groups at zero: a counter that appears with its first event hides that event from `rate()`.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a str>) -> Self {
        let mut r = Registry::with_prefix("hamaster_elect");
        let metrics = Self {
            state: add(&mut r, "state", "1 for the state the group is in here", Family::default()),
            is_leader: add(
                &mut r,
                "is_leader",
                "1 while this process leads and its deadline is ahead",
                Family::default(),
            ),
            token: add(&mut r, "token", "Fencing token of this leader, 0 when it does not lead", Family::default()),
            transitions: add(
                &mut r,
                "transitions",
                "Times this process became leader or ended being it",
                Family::default(),
            ),
            lease_remaining: add(
                &mut r,
                "lease_remaining_seconds",
                "Time until this leader fences itself",
                Family::default(),
            ),
            keepalive: add(&mut r, "keepalive_seconds", "Renewals, sent to answered", histograms(ROUND_TRIP)),
            keepalive_failures: add(&mut r, "keepalive_failures", "Renewals without an answer", Family::default()),
            fences: add(
                &mut r,
                "fence",
                "Times the payload was removed because leadership was in doubt",
                Family::default(),
            ),
            fence: add(&mut r, "fence_seconds", "Start of fencing to payload confirmed dead", histograms(STOPPING)),
            payload_stop: add(
                &mut r,
                "payload_stop_seconds",
                "Any stop of the payload, to confirmed",
                histograms(STOPPING),
            ),
            takeover_delay: add(
                &mut r,
                "takeover_delay_seconds",
                "Last sign of the old leader to taking over",
                histograms(STOPPING),
            ),
            suspicious: add(
                &mut r,
                "takeover_suspicious",
                "Leader keys that vanished though nobody let go",
                Family::default(),
            ),
            overlap_risk: add(
                &mut r,
                "overlap_risk_seconds",
                "Time by which this process woke up past its deadline",
                Family::default(),
            ),
            queue_position: add(
                &mut r,
                "queue_position",
                "Place in the queue from 1, 0 when not in it",
                Family::default(),
            ),
            candidates: add(&mut r, "candidates", "How many wait to lead", Family::default()),
            eligible: add(&mut r, "eligible", "1 when this node could lead", Family::default()),
            standby_ready: add(&mut r, "standby_ready", "1 when the payload could start at once", Family::default()),
            manifest_sync: add(&mut r, "manifest_sync", "Times a changed source was installed", Family::default()),
            manifest_hash: add(&mut r, "manifest_hash_info", "Digest of the installed manifest", Family::default()),
            source_invalid: add(
                &mut r,
                "source_invalid",
                "1 while the source is kept out because it does not parse",
                Family::default(),
            ),
            clock_anomaly: add(&mut r, "clock_anomaly", "Clock steps, late ticks, a changed boot", Family::default()),
            unfenced: add(
                &mut r,
                "unfenced",
                "1 while a payload that should be dead could not be stopped",
                Family::default(),
            ),
            flapping: add(
                &mut r,
                "flapping",
                "1 while leadership changes so often that this node holds back",
                Family::default(),
            ),
            store_requests: add(&mut r, "store_requests", "Requests to etcd, by gRPC code", Family::default()),
            lease_safe: add(
                &mut r,
                "etcd_lease_safe",
                "1 when the etcd version is free of the known lease bugs",
                Gauge::default(),
            ),
            cert_expiry: add(
                &mut r,
                "cert_expiry_seconds",
                "Time until the client certificate expires",
                Seconds::default(),
            ),
            registry: r,
        };
        groups.into_iter().for_each(|group| metrics.begin(&Group { group: group.to_owned() }));
        metrics
    }

    fn begin(&self, g: &Group) {
        for counter in [&self.keepalive_failures, &self.suspicious, &self.manifest_sync, &self.clock_anomaly] {
            drop(counter.get_or_create(g));
        }
        for gauge in [&self.standby_ready, &self.source_invalid, &self.unfenced, &self.flapping] {
            drop(gauge.get_or_create(g));
        }
        for histogram in [&self.keepalive, &self.fence, &self.payload_stop, &self.takeover_delay] {
            drop(histogram.get_or_create(g));
        }
        drop(self.overlap_risk.get_or_create(g));
    }

    /// Takes in what the machine of `group` wants counted.
    pub fn count(&self, group: &str, count: &Count) {
        let group = group.to_owned();
        match *count {
            Count::Transition(cause) => _ = self.transitions.get_or_create(&Cause { group, cause }).inc(),
            Count::Fence(trigger) => {
                _ = self.fences.get_or_create(&Trigger { group, trigger, by: "main" }).inc();
            }
            Count::RenewalFailed => _ = self.keepalive_failures.get_or_create(&Group { group }).inc(),
            Count::Renewed(took) => observe(&self.keepalive, group, took),
            Count::Suspicious => _ = self.suspicious.get_or_create(&Group { group }).inc(),
            Count::Anomaly => _ = self.clock_anomaly.get_or_create(&Group { group }).inc(),
            Count::OverlapRisk(by) => _ = self.overlap_risk.get_or_create(&Group { group }).inc_by(by.as_secs_f64()),
            Count::TakeoverDelay(took) => observe(&self.takeover_delay, group, took),
        }
    }

    /// Sets every gauge that follows from the status, as of `now`.
    pub fn show(&self, status: &Status, now: Instant) {
        let group = Group { group: status.group.clone() };
        let left = status.left(&status.boot_id, now);
        for state in STATES {
            let labels = InState { group: status.group.clone(), state };
            self.state.get_or_create(&labels).set((state == status.state).into());
        }
        let token = status.token.filter(|_| !left.is_zero()).map_or(0, |t| t.revision);
        let gauges = [
            (&self.is_leader, i64::from(!left.is_zero())),
            (&self.token, token),
            (&self.queue_position, status.position.and_then(|p| i64::try_from(p).ok()).unwrap_or(0)),
            (&self.candidates, i64::try_from(status.candidates).unwrap_or(i64::MAX)),
            (&self.eligible, status.eligible.into()),
            (&self.unfenced, status.unfenced.into()),
            (&self.flapping, status.held_back_until_ns.is_some_and(|at| Instant::from_nanos(at) > now).into()),
        ];
        for (gauge, value) in gauges {
            gauge.get_or_create(&group).set(value);
        }
        self.lease_remaining.get_or_create(&group).set(left.as_secs_f64());
    }

    /// The payload is confirmed dead, `took` after it was asked to stop; `fencing`: because leadership was in doubt.
    pub fn stopped(&self, group: &str, took: Duration, fencing: bool) {
        observe(&self.payload_stop, group.to_owned(), took);
        if fencing {
            observe(&self.fence, group.to_owned(), took);
        }
    }

    /// A changed source was installed.
    pub fn synced(&self, group: &str) {
        self.manifest_sync.get_or_create(&Group { group: group.to_owned() }).inc();
    }

    /// What is installed now, in place of what was.
    pub fn manifest(&self, group: &str, old: Option<&str>, new: Option<&str>) {
        let labels = |sha256: &str| Manifest { group: group.to_owned(), sha256: sha256.to_owned() };
        if let Some(old) = old {
            self.manifest_hash.remove(&labels(old));
        }
        if let Some(new) = new {
            self.manifest_hash.get_or_create(&labels(new)).set(1);
        }
    }

    /// Whether the source is kept out because it does not parse.
    pub fn source_invalid(&self, group: &str, invalid: bool) {
        self.source_invalid.get_or_create(&Group { group: group.to_owned() }).set(invalid.into());
    }

    /// Whether the payload could start at once.
    pub fn standby_ready(&self, group: &str, ready: bool) {
        self.standby_ready.get_or_create(&Group { group: group.to_owned() }).set(ready.into());
    }

    /// `total` requests of this kind ended so, since the start.
    pub fn store_requests(&self, op: &str, code: &str, total: u64) {
        let labels = Request { op: op.to_owned(), code: code.to_owned() };
        // The store counts for itself: this mirrors it.
        self.store_requests.get_or_create(&labels).inner().store(total, Ordering::Relaxed);
    }

    /// Whether the version of etcd is one without the known lease bugs.
    pub fn lease_safe(&self, safe: bool) {
        self.lease_safe.set(safe.into());
    }

    /// The client certificate expires in `left` seconds; negative: it has; infinite: there is none.
    pub fn cert_expiry(&self, left: f64) {
        self.cert_expiry.set(left);
    }

    /// OpenMetrics text, [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail; a metric that could not be encoded would end the text before `# EOF`, and
        // the scrape fails visibly.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn histograms(buckets: Buckets) -> Histograms {
    Family::new_with_constructor(buckets)
}

fn observe(histograms: &Histograms, group: String, took: Duration) {
    histograms.get_or_create(&Group { group }).observe(took.as_secs_f64());
}
