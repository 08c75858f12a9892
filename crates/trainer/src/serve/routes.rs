//! What each path answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use balgrad_data::Modality;
use hyper::body::Body as _;
use prometheus::IntGauge;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::Limits;
use super::asked::{Asked, Encoding, Form, encoding};
use super::counters::Counters;
use super::openapi;
use super::refusal::{Refusal, Refused};
use super::worker::{self, Failure, Job};
use crate::model::Reply;
use crate::{Model, Parts};

/// Bodies of the largest size that are held at once.
const BODIES: usize = 64;

/// How many times the limit of a body is read and thrown away, so that whoever sends it sees the answer.
const DISCARDED: usize = 8;

/// What requests share.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    queue: Sender<Job>,
    reads: Vec<&'static Modality>,
    /// Places for samples that wait or are worked on.
    places: Arc<Semaphore>,
    /// Memory for bodies, in KiB.
    memory: Semaphore,
    stopping: AtomicBool,
    about: Value,
    openapi: Value,
}

impl Shared {
    /// What requests share, and the thread that owns the model.
    pub(super) fn start(model: Model, limits: Limits) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let counters = Arc::new(Counters::new()?);
        let reads = model.reads();
        let modality = |m: &&Modality| json!({"name": m.name, "about": m.about, "inline": m.inline});
        let about = json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "task": model.task().name(),
            "classes": model.classes(),
            "modalities": reads.iter().map(modality).collect::<Vec<_>>(),
        });
        let openapi = openapi::document(&reads, model.task(), &limits);
        let (queue, thread) = worker::start(model, limits.abstain, Arc::clone(&counters))?;
        let shared = Self {
            counters,
            queue,
            reads,
            places: Arc::new(Semaphore::new(limits.waiting)),
            memory: Semaphore::new(kib(limits.body) as usize * BODIES),
            stopping: AtomicBool::new(false),
            about,
            openapi,
            limits,
        };
        Ok((Arc::new(shared), thread))
    }

    /// From now on `/health` says that the server is about to go.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Answers to some samples, in order.
    async fn answers(&self, asked: Vec<Asked>) -> Result<Vec<Result<Reply, Refusal>>, Refusal> {
        let most = self.limits.waiting;
        if asked.len() > most {
            let message = format!("a list of {} samples: send at most {most} at a time", asked.len());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let places = Arc::clone(&self.places).try_acquire_many_owned(asked.len() as u32).map_err(|_| {
            let message = format!(
                "{most} samples are waiting: try again in a second, or start the server with a larger --max-waiting"
            );
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        let mut samples: Vec<Parts> = Vec::with_capacity(asked.len());
        let mut wanted: Vec<(Option<Value>, Option<Refusal>)> = Vec::with_capacity(asked.len());
        for Asked { id, parts } in asked {
            match parts {
                Ok(parts) => {
                    samples.push(parts);
                    wanted.push((id, None));
                }
                Err(refusal) => wanted.push((id, Some(refusal))),
            }
        }
        let (reply, answer) = oneshot::channel();
        let dead = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the model has stopped: start the server again");
        self.queue.send(Job { samples, reply, places }).map_err(|_| dead())?;
        let late = |_| {
            let seconds = self.limits.wait.as_secs_f64();
            let message =
                format!("no answer within {seconds} s: try again, or start the server with a larger --max-seconds");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
        };
        let mut answers = timeout(self.limits.wait, answer).await.map_err(late)?.map_err(|_| dead())?.into_iter();
        let one = |(id, refusal): (Option<Value>, Option<Refusal>)| {
            let answer = match refusal {
                Some(refusal) => Err(refusal),
                None => match answers.next() {
                    Some(Ok(answer)) => Ok(answer),
                    Some(Err(Failure::Sample(why))) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
                    Some(Err(Failure::Model(why))) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)),
                    None => Err(dead()),
                },
            };
            answer.map(|answer| answer.called(id))
        };
        // Errors in a list carry the id too, but a status has no place for one.
        let ids: Vec<Option<Value>> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let all = wanted.into_iter().map(one).zip(ids);
        Ok(all.map(|(answer, id)| answer.map_err(|refusal| Refusal { id, ..refusal })).collect())
    }
}

/// What is sent: an answer, or for a list one of each sample.
#[derive(Serialize)]
#[serde(untagged)]
enum Sent {
    One(Box<Reply>),
    List(Vec<Item>),
}

/// An item of a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Reply(Box<Reply>),
    Refused(Refused),
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

/// The paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/predict", post(predict))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(document))
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        // Bodies are read under a limit of our own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&shared), count))
        .with_state(shared)
}

const PATHS: [&str; 5] = ["/", "/predict", "/health", "/metrics", "/openapi.json"];

/// Counts what is answered.
async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = PATHS.into_iter().find(|path| *path == request.uri().path()).unwrap_or("other");
    let started = Instant::now();
    let _active = Active::new(&shared.counters.active);
    let response = next.run(request).await;
    shared.counters.request(path, response.status().as_u16(), started.elapsed());
    response
}

/// A request at work, whether it ends with an answer or with its client.
struct Active<'a>(&'a IntGauge);

impl<'a> Active<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn predict(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Sent>, Refusal> {
    let encoding = encoding(&request)?;
    let (request, _memory) = shared.read(request).await?;
    let form = Form { reads: &shared.reads, pixels: shared.limits.pixels };
    let (asked, list) = match encoding {
        Encoding::Json => form.json(request.body())?,
        Encoding::Multipart => (vec![form.multipart(request.map(Body::from)).await?], false),
    };
    let mut answers = shared.answers(asked).await?;
    if list {
        let one = |answer: Result<Reply, Refusal>| match answer {
            Ok(reply) => Item::Reply(Box::new(reply)),
            Err(refusal) => Item::Refused(refusal.item()),
        };
        return Ok(Json(Sent::List(answers.into_iter().map(one).collect())));
    }
    answers
        .pop()
        .unwrap_or_else(|| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no answer")))
        .map(|reply| Json(Sent::One(Box::new(reply))))
}

impl Shared {
    /// A request with its whole body, and the memory that it takes.
    async fn read(
        &self,
        request: Request,
    ) -> Result<(hyper::Request<Bytes>, tokio::sync::SemaphorePermit<'_>), Refusal> {
        let most = self.limits.body;
        let (head, body) = request.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let asks = head.headers.contains_key(header::EXPECT);
        let large = || {
            let message = format!(
                "the body has more than {} MiB: send a smaller file or fewer samples, or start the server with a larger \
                 --max-body",
                most >> 20
            );
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let beyond = most.saturating_mul(DISCARDED);
        if length.is_some_and(|length| length > beyond || (asks && length > most)) {
            return Err(large());
        }
        let memory = self.memory.try_acquire_many(kib(length.unwrap_or(most).min(most))).map_err(|_| {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many large bodies at once: try again in a second")
        })?;
        let slow = |_| {
            let seconds = self.limits.wait.as_secs_f64();
            let message = format!(
                "the body did not arrive within {seconds} s: send it faster, or start the server with a larger --max-seconds"
            );
            Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
        };
        let body = timeout(self.limits.wait, whole(body, most)).await.map_err(slow)??.ok_or_else(large)?;
        Ok((hyper::Request::from_parts(head, body), memory))
    }
}

/// All of a body; none if it is too large.
async fn whole(mut body: Body, most: usize) -> Result<Option<Bytes>, Refusal> {
    let (mut all, mut size) = (Vec::new(), 0usize);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|e| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body broke off ({e}): send the request again"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size <= most {
            all.extend_from_slice(&data);
        } else if size <= most.saturating_mul(DISCARDED) {
            all = Vec::new();
        } else {
            break;
        }
    }
    Ok((size <= most).then(|| all.into()))
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    if shared.stopping.load(Ordering::SeqCst) {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping: ask another").into_response();
    }
    Json(&shared.about).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let failed = |e: prometheus::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    let text = shared.counters.text().map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn document(State(shared): State<Arc<Shared>>) -> Response {
    Json(&shared.openapi).into_response()
}

/// One page that asks nothing of any other server.
async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                          img-src 'self' data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (HEADERS, include_str!("page.html")).into_response()
}

async fn nothing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no such path: there are {}", PATHS.join(", ")))
}

async fn not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "another method: POST to /predict, GET the other paths")
}
