//! TLS of the server's listeners: the handshake, and a certificate that can be renewed while the
//! server runs.
//!
//! A `Certificate` is what handshakes take the current certificate and key from. It is read at the
//! start, when SIGHUP says so, and when `Tls::keep_current` finds that a file has changed;
//! connections that are open keep what they have. Files that do not make a certificate change
//! nothing, are logged once, and are read again when they change again: a renewal often writes one
//! file a moment after the other. What cannot be read at all, for a right that is not given yet or
//! for want of descriptors, is tried again each time, and logged once. So it is with a certificate that is over, which would be worse
//! than the one before; one that is yet to begin is taken when its time has come. At the start
//! there is none before it, and it is better than nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::config::{TlsConfig, TlsVersion, digest};
use crate::outage::{Failing, Outage, Part};

/// Bytes of a certificate's digest that the log shows.
const SHOWN_DIGEST_BYTES: usize = 8;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {key} {path}: {cause}")]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key} {path}: {problem}")]
    Content {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The certificate is over, or yet to begin.
    #[error("tls.cert {path}: the certificate {}", .time.problem())]
    Time {
        /// The file.
        path: String,
        /// What is wrong with its time.
        time: WrongTime,
    },
    /// The library refuses.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

/// A time in which a certificate is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongTime {
    /// It ended then, in seconds since 1970.
    Over(i64),
    /// It begins then.
    Early(i64),
}

impl TlsError {
    /// Whether it may be over without a file that changes.
    fn is_tried_again(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

/// TLS of all listeners.
#[derive(Debug)]
pub(crate) struct Tls {
    server: Arc<rustls::ServerConfig>,
    certificate: Arc<Certificate>,
    reload_interval: Duration,
    status: Arc<TlsStatus>,
}

/// What TLS has done so far, and how it is.
#[derive(Debug, Default)]
pub(crate) struct TlsStatus {
    /// Handshakes that came to a connection.
    pub(crate) handshakes: AtomicU64,
    /// Handshakes that failed, took too long or were broken off.
    pub(crate) failed_handshakes: AtomicU64,
    /// Certificates that took the place of one before.
    pub(crate) reloads: AtomicU64,
    /// Files that were to and could not.
    pub(crate) failed_reloads: AtomicU64,
    /// When the certificate ends, in seconds since 1970; `None` without one, and of one that says
    /// nothing that can be read.
    ends: Mutex<Option<i64>>,
    /// Set while what should take the place of the certificate could not.
    failing: Mutex<Option<Failing>>,
    /// What the log has been told could not be read, and is tried again.
    told: Mutex<Option<String>>,
}

/// The certificate that handshakes are made with, and where it comes from.
#[derive(Debug)]
struct Certificate {
    cert: String,
    key: String,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files were when they were read last, whatever was in them; `None` if they could not
    /// be.
    seen: Mutex<Option<[Option<Stamp>; 2]>>,
    /// When they are to be read again, changed or not: when a certificate begins.
    again: Mutex<Option<i64>>,
}

/// By what a file is known to be another: inode, size, when its content was changed, and when that
/// or its rights were.
type Stamp = (u64, u64, [i64; 2], [i64; 2]);

impl Tls {
    /// Reads the certificate; `None` if none is configured.
    pub(crate) fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else {
            return Ok(None);
        };
        let certificate = Arc::new(Certificate::load(cert, key)?);
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            TlsVersion::V12 => ALL_VERSIONS,
            TlsVersion::V13 => &[&version::TLS13],
        };
        let provider = Arc::new(ring::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients keep their session themselves, in a ticket: after a drain all come back at once.
        server.ticketer = ring::Ticketer::new()?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let status = TlsStatus::default();
        *status.ends.lock() = certificate.ends();
        Ok(Some(Self {
            server: Arc::new(server),
            certificate,
            reload_interval: config.reload_interval,
            status: Arc::new(status),
        }))
    }

    /// What makes TLS out of a connection, for [`herenow_channels::serve_through`].
    pub(crate) fn handshake(&self) -> impl Fn(TcpStream) -> Handshake + Send + Sync + use<> {
        let (acceptor, status) = (TlsAcceptor::from(self.server.clone()), self.status.clone());
        move |stream| {
            let shaken = acceptor.accept(stream);
            let outcome = Outcome {
                status: status.clone(),
                is_done: false,
            };
            Box::pin(async move {
                let stream = shaken.await?;
                outcome.succeed();
                Ok(stream)
            })
        }
    }

    /// How TLS is: nothing, without it.
    pub(crate) fn status(tls: Option<&Self>) -> Arc<TlsStatus> {
        tls.map_or_else(Arc::default, |tls| tls.status.clone())
    }

    /// Returns what is wrong with the time of the certificate, if something is now.
    pub(crate) fn wrong_time(&self) -> Option<TlsError> {
        let time = WrongTime::of(&self.certificate.current.read(), now())?;
        let path = self.certificate.cert.clone();
        Some(TlsError::Time { path, time })
    }

    /// Reads the files again, changed or not; the certificate stays if they do not make one.
    pub(crate) async fn reload(&self) {
        let certificate = self.certificate.clone();
        // Who asks is told, also the same again.
        *self.status.told.lock() = None;
        self.renew(move || Some(certificate.reload())).await;
    }

    /// Reads the files when they have changed, or could not be read. Never ends.
    pub(crate) async fn keep_current(&self) {
        let mut ticks = interval(self.reload_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let certificate = self.certificate.clone();
            self.renew(move || certificate.has_changed().then(|| certificate.reload()))
                .await;
        }
    }

    /// Runs `read`, which waits for disks, on a thread of its own.
    async fn renew(
        &self,
        read: impl FnOnce() -> Option<Result<String, TlsError>> + Send + 'static,
    ) {
        let renewed = tokio::task::spawn_blocking(read).await;
        match renewed {
            Ok(Some(Ok(digest))) => {
                self.status.reloads.fetch_add(1, Ordering::Relaxed);
                *self.status.ends.lock() = self.certificate.ends();
                *self.status.failing.lock() = None;
                *self.status.told.lock() = None;
                tracing::info!(
                    cert = self.certificate.cert,
                    digest,
                    "TLS certificate reloaded"
                );
            }
            Ok(Some(Err(error))) => self.status.fail(&error),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the TLS certificate was not read"),
        }
    }
}

impl TlsStatus {
    /// When the certificate ends, in seconds since 1970.
    pub(crate) fn ends(&self) -> Option<i64> {
        *self.ends.lock()
    }

    /// Whether the last attempt to take a new certificate has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.lock().is_some()
    }

    fn fail(&self, error: &TlsError) {
        let why = error.to_string();
        self.failed_reloads.fetch_add(1, Ordering::Relaxed);
        Failing::note(&mut self.failing.lock(), &why);
        let mut told = self.told.lock();
        if told.as_ref() != Some(&why) {
            tracing::error!(%error, "the TLS certificate stays as it was");
        }
        *told = error.is_tried_again().then_some(why);
    }

    /// The certificate that should be here and is not.
    pub(crate) fn outage(&self) -> Option<Outage> {
        let failing = self.failing.lock();
        Some(failing.as_ref()?.outage(Part::Certificate, "tls.cert"))
    }
}

/// A handshake under way.
pub(crate) type Handshake = Pin<Box<dyn Future<Output = io::Result<TlsStream<TcpStream>>> + Send>>;

/// Counts a handshake when it ends, or is given up.
struct Outcome {
    status: Arc<TlsStatus>,
    is_done: bool,
}

impl Outcome {
    fn succeed(mut self) {
        self.is_done = true;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let counter = match self.is_done {
            true => &self.status.handshakes,
            false => &self.status.failed_handshakes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Certificate {
    fn load(cert: &str, key: &str) -> Result<Self, TlsError> {
        let seen = stamps(cert, key);
        let current = read(cert, key)?;
        let digest = shown(&current);
        match WrongTime::of(&current, now()) {
            None => tracing::info!(cert, digest, "TLS certificate loaded"),
            Some(time) => {
                let problem = time.problem();
                tracing::error!(
                    cert,
                    digest,
                    problem,
                    "TLS certificate loaded out of its time"
                );
            }
        }
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(Some(seen)),
            again: Mutex::new(None),
        })
    }

    fn ends(&self) -> Option<i64> {
        let (_, ends) = validity(&self.current.read())?;
        Some(ends)
    }

    fn has_changed(&self) -> bool {
        let is_time = self.again.lock().is_some_and(|again| again <= now());
        is_time || Some(stamps(&self.cert, &self.key)) != *self.seen.lock()
    }

    /// Returns the digest of the certificate that holds from now on.
    fn reload(&self) -> Result<String, TlsError> {
        // Before they are read: what changes meanwhile is found the next time.
        let seen = stamps(&self.cert, &self.key);
        let read = read(&self.cert, &self.key);
        let is_tried_again = read.as_ref().is_err_and(TlsError::is_tried_again);
        *self.seen.lock() = (!is_tried_again).then_some(seen);
        *self.again.lock() = None;
        let current = read?;
        if let Some(time) = WrongTime::of(&current, now()) {
            if let WrongTime::Early(begins) = time {
                *self.again.lock() = Some(begins);
            }
            let path = self.cert.clone();
            return Err(TlsError::Time { path, time });
        }
        let digest = shown(&current);
        *self.current.write() = Arc::new(current);
        Ok(digest)
    }
}

impl WrongTime {
    /// What is wrong at `now` with the time of the first certificate; one that cannot be read is
    /// for clients to judge.
    fn of(key: &CertifiedKey, now: i64) -> Option<Self> {
        let (begins, ends) = validity(key)?;
        match now {
            _ if now > ends => Some(Self::Over(ends)),
            _ if now < begins => Some(Self::Early(begins)),
            _ => None,
        }
    }

    fn problem(self) -> String {
        let shown = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        match self {
            Self::Over(ends) => format!("expired at {}", shown(ends)),
            Self::Early(begins) => format!("is not valid before {}", shown(begins)),
        }
    }
}

/// When the first certificate begins and when it ends, in seconds since 1970; `None` if that cannot
/// be read.
fn validity(key: &CertifiedKey) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(key.cert.first()?).ok()?;
    let validity = certificate.validity();
    let (begins, ends) = (validity.not_before, validity.not_after);
    Some((begins.timestamp(), ends.timestamp()))
}

/// Seconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_second()
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

fn stamps(cert: &str, key: &str) -> [Option<Stamp>; 2] {
    [cert, key].map(|path| {
        let file = fs::metadata(path).ok()?;
        let content = [file.mtime(), file.mtime_nsec()];
        let rights = [file.ctime(), file.ctime_nsec()];
        Some((file.ino(), file.size(), content, rights))
    })
}

/// Reads certificate and key, and makes sure that they belong together.
fn read(cert: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let content = |key, path: &str, problem: &dyn ToString| TlsError::Content {
        key,
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let text = read_file("tls.cert", cert)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| content("tls.cert", cert, &error))?;
    if chain.is_empty() {
        return Err(content("tls.cert", cert, &"it has no certificate in PEM"));
    }
    let text = read_file("tls.key", key)?;
    // In PKCS #8, or as OpenSSL used to write it, which no parser of PEM takes.
    let is_encrypted = [
        &b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|sign| text.windows(sign.len()).any(|part| part == *sign));
    if is_encrypted {
        let problem = "the private key is encrypted, and nobody is there to be asked for its \
            password; store it unencrypted (openssl pkey -in KEY -out PLAIN), readable to this \
            program alone";
        return Err(content("tls.key", key, &problem));
    }
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => content("tls.key", key, &"it has no private key in PEM"),
        error => content("tls.key", key, &error),
    })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let problem = format!("it is not the key of the certificate in {cert}");
            content("tls.key", key, &problem)
        }
        rustls::Error::InvalidCertificate(_) => content("tls.cert", cert, &error),
        error => content("tls.key", key, &error),
    })
}

fn read_file(key: &'static str, path: &str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable {
        key,
        path: path.to_owned(),
        cause,
    })
}

/// By what an operator can tell certificates apart: the beginning of the SHA-256 of the first.
fn shown(key: &CertifiedKey) -> String {
    let digest = key.cert.first().map(|cert| digest(cert));
    let bytes = digest.iter().flatten().take(SHOWN_DIGEST_BYTES);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn srv_1784_a_file_whose_rights_change_is_another() {
        let name = format!("herenow-srv-1784-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "x").unwrap();
        let text = path.to_str().unwrap();
        let before = stamps(text, text);
        assert!(before[0].is_some());
        // A clock of files may stand still for some milliseconds.
        let until = Instant::now() + Duration::from_secs(60);
        while stamps(text, text) == before {
            assert!(Instant::now() < until, "it is the same");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(stamps(text, text), [None; 2]);
    }
}
