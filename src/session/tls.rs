//! TLS on both legs: certificates from PEM files, replaced while running. Knows no protocol beyond TLS and its ALPN name.
//!
//! One crypto provider (ring), always passed explicitly: a process-wide default would be a global.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::settings::{ClientCertificate, ListenTlsMode, ListenTlsSettings, SslMode, UpstreamSettings};
use super::stream::Socket;

/// The protocol's ALPN name ("SSL Session Encryption", protocol-flow).
pub const ALPN: &[u8] = b"postgresql";

/// TLS on the clients' leg.
#[derive(Debug)]
pub enum ListenTls {
    /// There is none.
    Disabled,
    /// Clients may, or must, use it.
    Offered {
        /// Sessions in the clear are refused.
        required: bool,
        /// Certificate and key, replaced on reload.
        identity: ListenIdentity,
    },
}

/// Certificate and key of the gate, and where they came from.
#[derive(Debug)]
pub struct ListenIdentity {
    files: ListenFiles,
    current: ArcSwap<ServerConfig>,
}

#[derive(Debug)]
struct ListenFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_certificate: ClientCertificate,
}

impl ListenTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(settings: &ListenTlsSettings) -> Result<Self, TlsError> {
        let required = match settings.mode {
            ListenTlsMode::Disable => return Ok(Self::Disabled),
            ListenTlsMode::Prefer => false,
            ListenTlsMode::Require => true,
        };
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
            return Err(TlsError::NotConfigured);
        };
        let files = ListenFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.client_ca.clone(),
            client_certificate: settings.client_certificate,
        };
        let current = ArcSwap::from_pointee(server_config(&files)?);
        Ok(Self::Offered { required, identity: ListenIdentity { files, current } })
    }

    /// Reads the files again; handshakes from now on use them.
    ///
    /// # Errors
    /// [`TlsError`]; what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        match self {
            Self::Disabled => Ok(()),
            Self::Offered { identity, .. } => {
                let fresh = server_config(&identity.files)?;
                identity.current.store(Arc::new(fresh));
                Ok(())
            }
        }
    }

    /// Whether sessions in the clear are refused.
    #[must_use]
    pub fn is_required(&self) -> bool {
        match self {
            Self::Disabled => false,
            Self::Offered { required, .. } => *required,
        }
    }
}

impl ListenIdentity {
    /// The handshake, as the server.
    pub(super) async fn accept(&self, socket: Socket) -> io::Result<tokio_rustls::server::TlsStream<Socket>> {
        TlsAcceptor::from(self.current.load_full()).accept(socket).await
    }
}

/// TLS on the backend's leg.
#[derive(Debug)]
pub struct UpstreamTls {
    settings: UpstreamSettings,
    name: ServerName<'static>,
    current: ArcSwap<ClientConfig>,
}

impl UpstreamTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file or setting.
    pub fn load(settings: &UpstreamSettings) -> Result<Self, TlsError> {
        let name = match ServerName::try_from(settings.host.clone()) {
            Ok(name) => name,
            Err(_) if settings.sslmode == SslMode::VerifyFull => {
                return Err(TlsError::HostName(settings.host.clone()));
            }
            // Nobody looks at the name in the other modes; an address is not sent as SNI.
            Err(_) => ServerName::from(std::net::Ipv4Addr::UNSPECIFIED),
        };
        Ok(Self { name, current: ArcSwap::from_pointee(client_config(settings)?), settings: settings.clone() })
    }

    /// Reads the files again; connections from now on use them.
    ///
    /// # Errors
    /// [`TlsError`]; what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(client_config(&self.settings)?));
        Ok(())
    }

    /// The handshake, as the client.
    pub(super) async fn connect(&self, socket: Socket) -> io::Result<tokio_rustls::client::TlsStream<Socket>> {
        TlsConnector::from(self.current.load_full()).connect(self.name.clone(), socket).await
    }
}

/// Why TLS cannot be set up. For operators; names files, shows no key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// TLS is asked for without files.
    #[error("TLS needs both a certificate and a key file")]
    NotConfigured,
    /// `verify-ca` without a CA would accept a certificate of anybody.
    #[error("sslmode verify-ca needs a CA file")]
    CaMissing,
    /// The host cannot be a certificate's name.
    #[error("sslmode verify-full needs a host name or address, not {0:?}")]
    HostName(String),
    /// A file cannot be read as PEM.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The authorities of clients' certificates are not usable.
    #[error("{path}: {why}", path = path.display())]
    ClientCa {
        /// Their file.
        path: PathBuf,
        /// Why, in rustls's words.
        why: String,
    },
    /// A file holds no certificate.
    #[error("{}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key that can be read.
    #[error("{}: no private key in it that is not encrypted", .0.display())]
    NoKey(PathBuf),
    /// The certificate or key is not usable, or they do not belong together.
    #[error("{path}: {source}", path = path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(files: &ListenFiles) -> Result<ServerConfig, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let key = read_key(&files.key)?;
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(client_verifier(files)?)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As Postgres (be-secure-openssl.c): no session tickets, no session cache. Database connections are long.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Who may come in with which certificate.
fn client_verifier(files: &ListenFiles) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = &files.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable { path: path.clone(), source })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match files.client_certificate {
        ClientCertificate::Optional => builder.allow_unauthenticated(),
        ClientCertificate::Required => builder,
    };
    builder.build().map_err(|error| TlsError::ClientCa { path: path.clone(), why: error.to_string() })
}

/// The common name of a certificate's subject, by which Postgres knows a client too (`clientname=CN`, "Certificate
/// Authentication"). `None` when there is none, or several, or one that is no text: such a name proves nothing.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let (name, more) = (names.next()?, names.next());
    // Fail closed: a NUL or another control character in a name is there to deceive.
    let name = name.as_str().ok().filter(|name| more.is_none() && !name.chars().any(char::is_control))?;
    Some(name.into())
}

fn client_config(settings: &UpstreamSettings) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = BackendVerifier {
        trust: trust(settings)?,
        check_name: settings.sslmode == SslMode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    };
    let unusable = |source| TlsError::Unusable { path: settings.certificate.clone().unwrap_or_default(), source };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&settings.certificate, &settings.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(read_certificates(certificate)?, read_key(key)?).map_err(unusable)?
        }
        (Some(_), None) | (None, Some(_)) => return Err(TlsError::NotConfigured),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn trust(settings: &UpstreamSettings) -> Result<Option<Trust>, TlsError> {
    match (settings.sslmode, &settings.ca) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => Ok(None),
        (SslMode::VerifyCa, None) => Err(TlsError::CaMissing),
        (SslMode::VerifyFull, None) => Ok(Some(Trust {
            roots: RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            pinned: Vec::new(),
        })),
        (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, Some(path)) => {
            let pinned = read_certificates(path)?;
            let mut roots = RootCertStore::empty();
            for certificate in &pinned {
                roots.add(certificate.clone()).map_err(|source| TlsError::Unusable { path: path.clone(), source })?;
            }
            Ok(Some(Trust { roots, pinned }))
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| {
        if matches!(source, pem::Error::NoItemsFound) {
            TlsError::NoKey(path.to_owned())
        } else {
            TlsError::File { path: path.to_owned(), source }
        }
    })
}

/// Checks a backend's certificate as libpq's sslmode of the same name does.
#[derive(Debug)]
struct BackendVerifier {
    /// `None`: the certificate is not checked, only that the server has its key.
    trust: Option<Trust>,
    check_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Trust {
    roots: RootCertStore,
    /// The file's certificates as they are. A server with a self-signed certificate is usually trusted by naming that very
    /// certificate as its own CA, which path building rejects because a CA is not a server.
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if !trust.pinned.iter().any(|known| known == end_entity) {
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &trust.roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if self.check_name {
            rustls::client::verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a failed handshake failed because of the certificate: trying again without TLS would be a downgrade.
pub(super) fn is_certificate_error(error: &io::Error) -> Option<&CertificateError> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::InvalidCertificate(reason) = inner { Some(reason) } else { None }
}
