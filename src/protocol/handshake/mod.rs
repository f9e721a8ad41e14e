//! The opening handshake (RFC 6455, 4.2) over HTTP/1.1 (RFC 9112).
