//! The ways in: a client that speaks to each kind of listener, behind whatever was sent before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::Served;

/// A kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket,
    Tcp,
    TlsWebSocket,
    TlsTcp,
}

pub(crate) const WAYS: [Way; 4] = [Way::WebSocket, Way::Tcp, Way::TlsWebSocket, Way::TlsTcp];

const WHO: &str = r#"{"route":"who","id":7}"#;

impl Way {
    pub(crate) fn address(self, served: &Served) -> SocketAddr {
        let running = &served.running;
        match self {
            Self::WebSocket => running.addresses()[0],
            Self::Tcp => running.tcp_addresses()[0],
            Self::TlsWebSocket => running.tls_addresses()[0],
            Self::TlsTcp => running.tls_tcp_addresses()[0],
        }
    }

    /// Opens what this listener takes on a stream, and asks for whom the gateway takes the client.
    pub(crate) fn who(self, stream: TcpStream) -> String {
        match self {
            Self::WebSocket => ask_by_message(stream),
            Self::Tcp => ask_by_frame(stream),
            Self::TlsWebSocket => ask_by_message(over_tls(stream)),
            Self::TlsTcp => ask_by_frame(over_tls(stream)),
        }
    }
}

/// TLS that trusts everybody: certificates are not what these tests are about.
pub(crate) fn over_tls(stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAll));
    let config = Arc::new(builder.with_no_client_auth());
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

pub(crate) fn ask_by_message(stream: impl Read + Write) -> String {
    let (mut socket, _) = tungstenite::client("ws://localhost/ws", stream).unwrap();
    let who = ask(&mut socket);
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    who
}

pub(crate) fn ask(socket: &mut WebSocket<impl Read + Write>) -> String {
    socket.send(Message::text(WHO)).unwrap();
    told(socket.read().unwrap().into_text().unwrap().as_bytes())
}

fn ask_by_frame(mut stream: impl Read + Write) -> String {
    let frame = |opcode: u8, payload: &[u8]| {
        [&[opcode][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    stream.write_all(&frame(1, WHO.as_bytes())).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 1);
    let mut payload = vec![0; u32::from_be_bytes(*head.last_chunk().unwrap()) as usize];
    stream.read_exact(&mut payload).unwrap();
    stream.write_all(&frame(8, &1000_u16.to_be_bytes())).unwrap();
    // However it ends: over TLS there may be no close_notify to wait for.
    let _ = stream.read_to_end(&mut Vec::new());
    told(&payload)
}

fn told(answer: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    answer["body"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
