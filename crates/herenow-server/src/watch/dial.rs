//! Connections of `herenow watch`: bare TCP, or TLS for `wss://`.

use std::io;
use std::sync::Arc;

use herenow_client::{Dial, Dialed, IoStream, TcpDial};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Opens streams under TLS, to servers whose certificates this machine trusts, or a given
/// authority.
#[derive(Debug)]
pub(super) struct WatchDial(Arc<ClientConfig>);

impl WatchDial {
    /// `ca` is a PEM file of authorities that are trusted instead of the machine's.
    pub(super) fn new(ca: Option<&str>) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = match ca {
            Some(path) => config.with_root_certificates(roots(path)?),
            None => config.with_platform_verifier().map_err(io::Error::other)?,
        };
        Ok(Self(Arc::new(config.with_no_client_auth())))
    }
}

fn roots(path: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    match roots.is_empty() {
        true => Err(io::Error::other("it has no certificate in PEM")),
        false => Ok(roots),
    }
}

impl Dial for WatchDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16, is_tls: bool) -> Dialed<'a> {
        if !is_tls {
            return TcpDial.dial(host, port, is_tls);
        }
        Box::pin(async move {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(self.0.clone());
            let stream = connector.connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn IoStream>)
        })
    }
}
