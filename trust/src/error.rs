//! Why a policy cannot be read or used.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not sha256: and 64 hexadecimal digits")]
    NoPin(String),
    #[error("cannot read {file}")]
    File {
        file: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("the authorities are not in PEM")]
    NoPem(#[source] rustls::pki_types::pem::Error),
    #[error("there is no usable certificate of an authority")]
    NoAuthority,
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot read a certificate: {0}")]
    NoCertificate(String),
}
