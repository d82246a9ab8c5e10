//! TLS and HTTP towards Slack. Knows addresses and bytes, nothing of what they mean.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

/// How connections to Slack are made.
#[derive(Clone)]
pub(super) struct Transport {
    tls: ClientConfig,
}

impl Transport {
    /// Trusts what the machine trusts, which may include a company's own inspecting proxy; the public authorities where the
    /// machine has none.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let builder = || {
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
        };
        let tls = if let Ok(rooted) = builder()?.with_native_roots() {
            rooted.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            builder()?.with_root_certificates(roots).with_no_client_auth()
        };
        Ok(Self { tls })
    }

    /// For slack-morphism's client and ours: both versions of HTTP, because a stand-in or an inspecting proxy may know one only.
    pub(super) fn connector(&self) -> HttpsConnector<HttpConnector> {
        HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .build()
    }

    /// A client that adds nothing, no token above all.
    pub(super) fn bare_client(&self) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
        Client::builder(TokioExecutor::new()).build(self.connector())
    }

    /// For the sockets of Socket Mode.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        Arc::new(self.tls.clone())
    }
}
