//! Certificates for one test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::engine::PROGRAM;

/// Returns an empty folder for one test.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(PROGRAM)
        .join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes an authority's certificate, and certificates of its with their keys.
pub(super) fn authority(folder: &Path, name: &str, subjects: &[&str]) {
    let mut of_authority = CertificateParams::new([]).unwrap();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_authority
        .distinguished_name
        .push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let issuer = CertifiedIssuer::self_signed(of_authority, key).unwrap();
    let write = |name: String, text: String| std::fs::write(folder.join(name), text).unwrap();
    write(format!("{name}.pem"), issuer.pem());
    for subject in subjects {
        let key = KeyPair::generate().unwrap();
        let mut of_subject = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        of_subject
            .distinguished_name
            .push(DnType::CommonName, *subject);
        let certificate = of_subject.signed_by(&key, &issuer).unwrap();
        write(format!("{subject}.pem"), certificate.pem());
        write(format!("{subject}.key"), key.serialize_pem());
    }
}
