//! Certificates made for a test, and TLS client configurations that trust them.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A certificate authority and a server certificate for `localhost` and `127.0.0.1` that it signed.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority, PEM.
    pub ca_pem: String,
    /// The server's certificate, PEM.
    pub certificate_pem: String,
    /// The server's key, PEM.
    pub key_pem: String,
}

impl Certificates {
    /// For `localhost` and `127.0.0.1`.
    pub fn new() -> Certificates {
        Certificates::for_names(&["localhost", "127.0.0.1"])
    }

    /// For other names.
    pub fn for_names(names: &[&str]) -> Certificates {
        Certificates::issue(names, "test server")
    }

    /// A client's, for its common name.
    pub fn for_client(common_name: &str) -> Certificates {
        Certificates::issue(&[], common_name)
    }

    fn issue(names: &[&str], common_name: &str) -> Certificates {
        let mut ca = CertificateParams::new(Vec::new()).expect("no names, no wrong ones");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let ca_key = KeyPair::generate().expect("a key");
        let ca_certificate = ca.self_signed(&ca_key).expect("a self-signed authority");
        let issuer = Issuer::new(ca, ca_key);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names).expect("valid names");
        server.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = server.signed_by(&key, &issuer).expect("a signed certificate");
        Certificates { ca_pem: ca_certificate.pem(), certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A client that trusts the authority and offers these ALPN protocols.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).expect("our own PEM"))
            .expect("our own authority");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}
