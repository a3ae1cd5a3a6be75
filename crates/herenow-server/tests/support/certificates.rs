//! Certificates of an authority made for one test, and clients that trust it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::rig::within;

/// An authority, and the folder that a server reads its certificate from.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pub(crate) folder: PathBuf,
}

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = format!("certificates-{}-{name}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = ca.self_signed(&key).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        let root = certificate.der().clone();
        Self {
            issuer: Issuer::new(ca, key),
            root,
            folder,
        }
    }

    /// Makes a certificate for this machine.
    pub(crate) fn leaf(&self) -> Leaf {
        self.leaf_for(None)
    }

    /// Makes one for the years from one to another.
    fn leaf_for(&self, years: Option<(i32, i32)>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        if let Some((from, to)) = years {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Makes a certificate and puts it where the server reads it.
    pub(crate) fn install(&self) -> Leaf {
        self.put(self.leaf())
    }

    /// As [`Authority::install`], for the years from one to another.
    pub(crate) fn install_for(&self, from: i32, to: i32) -> Leaf {
        self.put(self.leaf_for(Some((from, to))))
    }

    fn put(&self, leaf: Leaf) -> Leaf {
        fs::write(self.path("cert.pem"), &leaf.pem).unwrap();
        fs::write(self.path("key.pem"), &leaf.key).unwrap();
        leaf
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Opens a connection by any version of TLS.
    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<Secure> {
        self.connect_by(address, ALL_VERSIONS).await
    }

    /// Opens a connection by some versions of TLS, offering HTTP/2 as browsers do.
    pub(crate) async fn connect_by(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<Secure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip());
        within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

/// A connection under TLS.
pub(crate) type Secure = TlsStream<TcpStream>;

/// The certificate that the server has shown.
pub(crate) fn shown(stream: &Secure) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}
