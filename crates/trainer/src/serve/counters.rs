//! What `/metrics` shows, for Prometheus.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, Result, TextEncoder};

/// What is counted while a server runs.
pub(super) struct Counters {
    registry: Registry,
    requests: IntCounterVec,
    samples: IntCounterVec,
    seconds: Histogram,
    batches: Histogram,
    /// Requests that are read, wait, or are worked on.
    pub(super) active: IntGauge,
}

impl Counters {
    pub(super) fn new() -> Result<Self> {
        let histogram = |name: &str, about: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, about).buckets(buckets.to_vec()))
        };
        let fine = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        let counters = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("balgrad_requests_total", "Requests that were answered."),
                &["path", "status"],
            )?,
            samples: IntCounterVec::new(
                Opts::new("balgrad_samples_total", "Samples that were predicted, by the modalities that they had."),
                &["modalities"],
            )?,
            seconds: histogram("balgrad_predict_seconds", "How long a POST /predict took, in seconds.", &fine)?,
            batches: histogram(
                "balgrad_batch_samples",
                "Samples in one pass of the model.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
            )?,
            active: IntGauge::new("balgrad_active_requests", "Requests that are read, wait, or are worked on.")?,
        };
        counters.registry.register(Box::new(counters.requests.clone()))?;
        counters.registry.register(Box::new(counters.samples.clone()))?;
        counters.registry.register(Box::new(counters.seconds.clone()))?;
        counters.registry.register(Box::new(counters.batches.clone()))?;
        counters.registry.register(Box::new(counters.active.clone()))?;
        Ok(counters)
    }

    pub(super) fn request(&self, path: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[path, &status.to_string()]).inc();
        if path == "/predict" {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    pub(super) fn sample(&self, modalities: &[&str]) {
        let set = if modalities.is_empty() { "none".to_owned() } else { modalities.join("+") };
        self.samples.with_label_values(&[&set]).inc();
    }

    pub(super) fn batch(&self, samples: usize) {
        if samples > 0 {
            self.batches.observe(samples as f64);
        }
    }

    /// Answers to `POST /predict` with status 200.
    pub(super) fn predicted(&self) -> u64 {
        self.requests.with_label_values(&["/predict", "200"]).get()
    }

    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
