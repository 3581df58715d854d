//! The one way in which connections are secured and HTTP clients built: rustls with ring and a root set of its own, no
//! proxy, no redirects.

use reqwest::ClientBuilder;

/// TLS as every connection to the exchange uses it.
///
/// # Errors
/// The TLS library lacks TLS 1.2 and 1.3.
pub fn tls() -> Result<rustls::ClientConfig, &'static str> {
    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| "TLS 1.2 or 1.3 must be there")?;
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A client's beginning; the caller sets its time-outs.
///
/// # Errors
/// As [`tls`].
pub fn builder() -> Result<ClientBuilder, &'static str> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls()?);
    Ok(builder.redirect(reqwest::redirect::Policy::none()).no_proxy())
}
