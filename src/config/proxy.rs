//! What is taken from proxies: read, checked and shown.

use super::definitions_proxy::{FROM_ELSEWHERE, HEADERS, PROTOCOLS};
use super::endpoints::Words;
use super::resolve::Draft;
use super::suggest::nearest;
use super::{Config, Place, Problem};
use crate::transport::proxy::{
    ForwardedHeader, FromElsewhere, ListenerKind, ProxyProtocol, ProxySettings, Trusted,
    parse_trusted,
};

impl Words for ProxyProtocol {
    const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("accept", Self::Accept), ("require", Self::Require)];
}

impl Words for ForwardedHeader {
    const ALL: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
    ];
}

impl Words for FromElsewhere {
    const ALL: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("ignore", Self::Ignore)];
}

impl Draft<'_> {
    /// Reads it, once the listeners are read.
    pub(super) fn read_proxy(&mut self, config: &mut Config) {
        let ProxySettings { protocol, untrusted, forwarded, untrusted_forwarded, .. } =
            &mut config.proxy;
        self.read("--proxy-protocol", protocol, word(PROTOCOLS));
        self.read("--untrusted-proxies", untrusted, word(FROM_ELSEWHERE));
        self.read("--forwarded-headers", forwarded, word(HEADERS));
        self.read("--untrusted-forwarded", untrusted_forwarded, word(FROM_ELSEWHERE));
        let mut trusted = Vec::new();
        self.read_each("--trusted-proxies", &mut trusted, parse_trusted);
        config.proxy.trusted = trusted.into_iter().collect();
        for (kind, flag, listeners) in [
            (ListenerKind::WebSocket, "--listen", config.listen.len()),
            (ListenerKind::Tcp, "--tcp-listen", config.tcp_listen.len()),
            (ListenerKind::TlsWebSocket, "--tls-listen", config.tls_listen.len()),
            (ListenerKind::TlsTcp, "--tls-tcp-listen", config.tls_tcp_listen.len()),
        ] {
            for index in 0..listeners {
                let table = self.sources.listener(&format!("{flag}[{index}]"));
                if let Some(own) = table.and_then(|table| self.file.proxy_protocols.get(table)) {
                    config.proxy.set_protocol_at(kind, index, *own);
                }
            }
        }
    }
}

impl Draft<'_> {
    /// Where a listener asks for PROXY headers, while the flag does not.
    pub(super) fn place_of_protocol(&self, flag: &str) -> Option<Place> {
        let asks = flag == "--proxy-protocol" && self.config.proxy.protocol == ProxyProtocol::Off;
        let mut own = self.file.proxy_protocols.iter().filter(|_| asks);
        let (table, _) = own.find(|(_, protocol)| **protocol != ProxyProtocol::Off)?;
        self.sources.place(&format!("{table}.proxy_protocol")).cloned()
    }
}

impl Config {
    /// Proxies that are to be listened to, and are nowhere.
    pub(super) fn proxy_problem(&self) -> Option<Problem> {
        let ProxySettings { protocol, forwarded, .. } = &self.proxy;
        let (flag, value) = match (self.proxy.has_protocol(), forwarded) {
            (true, _) => ("--proxy-protocol", protocol.word()),
            (false, ForwardedHeader::Off) => return None,
            (false, _) => ("--forwarded-headers", forwarded.word()),
        };
        let what = "nobody is trusted to say who clients are";
        let fix = "give --trusted-proxies 10.0.0.0/8, or whatever networks the proxies are in";
        self.proxy.trusted.is_empty().then(|| Problem::new(flag, value, what, fix))
    }

    /// Trust in everybody.
    pub(super) fn proxy_warning(&self) -> Option<String> {
        let is_all = |trusted: &&Trusted| matches!(trusted, Trusted::Network(network) if network.prefix_len() == 0);
        let all = self.proxy.trusted.iter().find(is_all)?;
        let by = if self.proxy.has_protocol() { "a PROXY header" } else { "a header" };
        (self.proxy.has_protocol() || self.proxy.forwarded != ForwardedHeader::Off).then(|| {
            format!("--trusted-proxies {all} is everybody: clients can name any address, by {by}")
        })
    }
}

/// Reads one of the words of a setting, of which `values` is the list.
fn word<T: Words>(values: &str) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let words = || T::ALL.iter();
        if let Some((_, value)) = words().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let meant = nearest(text, words().map(|(word, _)| *word));
        let meant = meant.map_or(String::new(), |word| format!(": did you mean `{word}`?"));
        Err(format!("{values}{meant}"))
    }
}
