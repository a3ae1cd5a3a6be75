//! [`Courier`]: brings what is in a [`Queue`] to its webhook, and tries again until it is there.
//!
//! `webhook.concurrency` batches are under way at most; one that waits for its next attempt counts.
//! So a receiver that is down is asked by that many, with back-off, and no faster. An answer other
//! than 2xx to a batch of several topics can be about one of them: the half of it goes back into
//! the queue, and so on, until what is refused stands alone and keeps nobody else waiting.
//!
//! A batch of one topic is given up when it was refused `webhook.max_attempts` times. Who does not
//! answer has not refused: neither has a proxy that answers for a receiver which is down, nor one
//! who says that it is too much now.
//!
//! An event is given up when it is `webhook.max_age` old, after a last attempt then, and the
//! younger ones of its batch go on without it. Those that reach that age soon after it have their
//! last attempt when it is time for the next one, so that what is left of a batch does not come
//! faster than back-off lets it.
//!
//! When the queue is closed, whoever waits goes on at once, and then waits for `webhook.min_backoff`
//! at most: there is not much time left.
//!
//! The number of a batch, `webhook-id`, is the same in each attempt. What is left of one that came
//! apart, by halves or by age, is another batch: it has a number of its own, and has not been
//! refused yet.

mod standing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::broker::{Backoff, in_words};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, debug_span};

use self::standing::Standing;
use super::EventsError;
use super::event::{Filter, Loss};
use super::queue::{Again, Batch, Next, Queue};
use super::signature::Signer;
use crate::clock;
use crate::config::{Receiver, ServerConfig, WebhookConfig};
use crate::outage::Outage;

/// How much of an answer is read, and for how long, so that its connection can be used again.
const MAX_ANSWER_BYTES: usize = 16 << 10;
const MAX_ANSWER_TIME: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(super) struct Courier {
    /// What it is called in metrics, in the log and in the dashboard.
    label: String,
    origin: String,
    queue: Arc<Queue>,
    url: Url,
    client: Client,
    signer: Signer,
    node: String,
    config: Arc<WebhookConfig>,
    backoff: Backoff,
    /// What the numbers of its batches begin with.
    life: String,
    standing: Arc<Standing>,
    n_batches: AtomicU64,
    n_attempts: AtomicU64,
    n_retries: AtomicU64,
    n_failures: AtomicU64,
}

/// What a webhook has got, and what it has not.
#[derive(Debug)]
pub(crate) struct WebhookStats {
    /// What it is called, with few values that are known beforehand.
    pub(crate) name: String,
    pub(crate) is_failing: bool,
    /// Events that wait or are under way, and their bytes.
    pub(crate) n_waiting: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) n_delivered: u64,
    /// Events lost, by why.
    pub(crate) lost: Vec<(&'static str, u64)>,
    pub(crate) n_requests: u64,
    /// Those that were made because one before had failed.
    pub(crate) n_retries: u64,
    pub(crate) n_failures: u64,
}

/// Why a receiver does not have a batch.
#[derive(Debug)]
struct Failure {
    why: String,
    /// Whether the receiver answered, and so has read the batch.
    is_answer: bool,
    /// Whether it is the batch that it does not want.
    is_refusal: bool,
    retry_after: Option<Duration>,
}

impl Courier {
    /// One for each webhook that is configured, in their order.
    pub(super) fn of(config: &ServerConfig, node: &str) -> Result<Vec<Arc<Self>>, EventsError> {
        let receivers = config.receivers();
        if receivers.is_empty() {
            return Ok(Vec::new());
        }
        // An error says that there is one already.
        let _is_there = rustls::crypto::ring::default_provider().install_default();
        let limits = Arc::new(config.webhook.clone());
        let couriers = receivers
            .iter()
            .map(|receiver| Self::new(&limits, receiver, node));
        couriers.map(|courier| courier.map(Arc::new)).collect()
    }

    fn new(
        config: &Arc<WebhookConfig>,
        receiver: &Receiver<'_>,
        node: &str,
    ) -> Result<Self, EventsError> {
        let wrong = |setting| EventsError::Setting { setting };
        let url = Url::parse(receiver.url).map_err(|_| wrong("webhook.urls"))?;
        let secret = receiver.secret.map(|secret| secret.expose());
        let signer = secret.and_then(Signer::new);
        let client = Client::builder()
            .user_agent(concat!("herenow/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout)
            .pool_max_idle_per_host(config.concurrency)
            .build()
            .map_err(EventsError::Client)?;
        // A path can be a secret; the origin is not.
        let origin = url.origin().ascii_serialization();
        let filter = Filter::all()
            .of_patterns(receiver.topics)
            .of_kinds(receiver.events.iter().map(String::as_str));
        let label = receiver.label.clone();
        tracing::info!(webhook = label, origin, "telling a webhook of events");
        Ok(Self {
            label: label.clone(),
            origin,
            standing: Standing::new(label.clone()),
            queue: Arc::new(Queue::new(label, filter, config.clone())),
            url,
            client,
            signer: signer.ok_or(wrong("webhook.secret"))?,
            node: node.to_owned(),
            backoff: Backoff::new(config.min_backoff, config.max_backoff)
                .map_err(|_| wrong("webhook.min_backoff"))?,
            config: config.clone(),
            life: clock::life(),
            n_batches: AtomicU64::new(0),
            n_attempts: AtomicU64::new(0),
            n_retries: AtomicU64::new(0),
            n_failures: AtomicU64::new(0),
        })
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Delivers until the queue is closed and empty.
    pub(super) async fn run(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        while !self.queue.is_finished() || !under_way.is_empty() {
            let mut due = None;
            while under_way.len() < self.config.concurrency {
                match self.queue.next(Instant::now()) {
                    Next::Batch(batch) => {
                        let (webhook, n_events) = (&*self.label, batch.n_events());
                        let span = debug_span!(
                            "webhook",
                            webhook,
                            n_events,
                            n_attempts = Empty,
                            is_delivered = Empty
                        );
                        under_way.spawn(self.clone().deliver(batch).instrument(span));
                    }
                    Next::At(time) => {
                        due = Some(time);
                        break;
                    }
                    Next::Nothing => break,
                }
            }
            tokio::select! {
                () = self.queue.wake.notified() => {}
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "delivering to a webhook has failed");
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Says in the log what is not delivered, and is lost with the process.
    pub(super) fn say_what_is_left(&self) {
        let n_events = self.queue.n_held();
        if n_events > 0 {
            let webhook = self.queue.name();
            tracing::warn!(
                webhook,
                n_events,
                "stopped with events that are not delivered"
            );
        }
    }

    pub(super) fn stats(&self) -> WebhookStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let queue = self.queue.stats();
        let lost = |loss: Loss| (loss.word(), queue.lost.of(loss));
        WebhookStats {
            name: self.label.clone(),
            is_failing: self.standing.is_failing(),
            n_waiting: queue.n_held,
            waiting_bytes: queue.held_bytes,
            n_delivered: queue.n_delivered,
            lost: Loss::OF_WEBHOOKS.map(lost).into(),
            n_requests: read(&self.n_attempts),
            n_retries: read(&self.n_retries),
            n_failures: read(&self.n_failures),
        }
    }

    pub(super) fn show(&self) -> Value {
        let stats = self.stats();
        json!({
            "name": stats.name,
            "origin": self.origin,
            "is_failing": stats.is_failing,
            "n_waiting": stats.n_waiting,
            "limit": self.config.max_queued,
            "n_delivered": stats.n_delivered,
            "n_lost": stats.lost.iter().map(|(_, n)| n).sum::<u64>(),
            "n_requests": stats.n_requests,
            "n_failures": stats.n_failures,
        })
    }

    /// What is missing, if the receiver does not take events now.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.standing.outage()
    }

    /// Sends a batch until the receiver has it, or it is given up.
    async fn deliver(self: Arc<Self>, mut batch: Batch) {
        let (mut n_failed, mut n_refused) = (batch.n_failed, 0);
        let (mut id, mut body) = (self.next_id(), batch.body(&self.node));
        self.n_retries
            .fetch_add(u64::from(n_failed > 0), Ordering::Relaxed);
        let mut waiting = None;
        loop {
            let span = debug_span!("webhook_request", status = Empty);
            let failure = match self.attempt(&id, body.clone()).instrument(span).await {
                Ok(()) => {
                    drop(waiting);
                    self.on_success(n_failed);
                    return self.queue.on_delivered(batch);
                }
                Err(failure) => failure,
            };
            n_failed += 1;
            waiting.get_or_insert_with(|| self.standing.wait());
            self.on_failure(&failure, n_failed);
            let is_closed = self.queue.is_closed();
            let wait = self.wait(n_failed, &failure, is_closed);
            let at = Instant::now() + wait;
            let again = Again { n_failed, at };
            if batch.parts.is_empty() {
                return self.queue.on_untold(&batch, again);
            }
            let has_halved = failure.is_answer && batch.parts.len() > 1;
            if has_halved {
                self.queue.take_back_half(&mut batch);
            } else {
                n_refused += usize::from(failure.is_refusal);
                if n_refused >= self.config.max_attempts {
                    return self.lose(Loss::Refused, batch, &failure, again);
                }
            }
            let now = Instant::now();
            let (oldest, youngest) = batch.ages(now);
            if youngest >= self.config.max_age {
                return self.lose(Loss::TooOld, batch, &failure, again);
            }
            let has_aged = oldest >= self.config.max_age;
            if has_aged {
                self.lose_old(&mut batch, now, &failure);
            }
            if has_halved || has_aged {
                (id, body, n_refused) = (self.next_id(), batch.body(&self.node), 0);
            }
            let age = if has_aged { youngest } else { oldest };
            let wait = wait.min(self.config.max_age.saturating_sub(age));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.queue.closed(), if !is_closed => {}
            }
            self.n_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long the receiver is left alone after a failure.
    fn wait(&self, n_failed: usize, failure: &Failure, is_closed: bool) -> Duration {
        let wait = self.backoff.wait(n_failed - 1);
        let wait = wait.max(failure.retry_after.unwrap_or_default());
        wait.min(match is_closed {
            true => self.config.min_backoff,
            false => self.config.max_backoff,
        })
    }

    fn lose(&self, loss: Loss, batch: Batch, failure: &Failure, again: Again) {
        let span = Span::current();
        span.record("n_attempts", again.n_failed);
        span.record("is_delivered", false);
        let (webhook, n_events) = (self.queue.name(), batch.n_events());
        let (why, reason) = (&failure.why, loss.word());
        tracing::warn!(webhook, n_events, reason, why, "events for a webhook lost");
        self.queue.on_lost(loss, batch, again);
    }

    /// Gives up those events of a batch that are too old, though not all are.
    fn lose_old(&self, batch: &mut Batch, now: Instant, failure: &Failure) {
        let n_events = self.queue.drop_old(batch, now);
        let (webhook, why) = (self.queue.name(), &failure.why);
        let reason = Loss::TooOld.word();
        tracing::warn!(webhook, n_events, reason, why, "events for a webhook lost");
    }

    async fn attempt(&self, id: &str, body: Bytes) -> Result<(), Failure> {
        self.n_attempts.fetch_add(1, Ordering::Relaxed);
        let unix_seconds = clock::unix_seconds();
        let signature = self.signer.sign(id, unix_seconds, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_seconds.to_string())
            .header("webhook-signature", signature)
            .body(body);
        let mut answer = request.send().await.map_err(Failure::silence)?;
        let (status, retry_after) = (answer.status(), retry_after(&answer));
        Span::current().record("status", status.as_u16());
        // What it says beside the status is of no interest, nor is it when that breaks off.
        let _in_time = timeout(MAX_ANSWER_TIME, read_off(&mut answer)).await;
        match status.is_success() {
            true => Ok(()),
            false => Err(Failure::answer(status, retry_after)),
        }
    }

    fn on_success(&self, n_failed: usize) {
        let span = Span::current();
        span.record("n_attempts", n_failed + 1);
        span.record("is_delivered", true);
        self.standing.on_success();
    }

    fn on_failure(&self, failure: &Failure, n_failed: usize) {
        self.n_failures.fetch_add(1, Ordering::Relaxed);
        self.standing.on_failure(&failure.why, n_failed);
    }

    fn next_id(&self) -> String {
        let number = 1 + self.n_batches.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.life)
    }
}

impl Failure {
    fn silence(error: reqwest::Error) -> Self {
        // Its URL can have a secret in it.
        let error = error.without_url();
        Self {
            why: in_words(&error),
            is_answer: false,
            is_refusal: false,
            retry_after: None,
        }
    }

    fn answer(status: StatusCode, retry_after: Option<Duration>) -> Self {
        let is_for_now = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        Self {
            why: format!("the answer is {status}"),
            is_answer: true,
            is_refusal: !is_for_now,
            retry_after,
        }
    }
}

/// Reads what there is of an answer, and leaves the rest of a long one.
async fn read_off(answer: &mut reqwest::Response) {
    let mut n_read = 0;
    while n_read < MAX_ANSWER_BYTES
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        n_read += chunk.len();
    }
}

/// What the receiver says of when to come again, in seconds; dates are not read.
fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}
