//! The handshake's part of permessage-deflate (RFC 7692, 5 and 7.1), in both roles.

use std::fmt;

use super::WINDOW_BITS_MAX;
use super::agreed::Agreed;
use super::extensions::{Extension, MalformedExtensions, Parameters, extensions};
use crate::limits::DEFLATE_WINDOW_BITS;

/// Who shares what compresses and inflates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeflateMode {
    /// There is no permessage-deflate.
    Off,
    /// All connections of a thread: no message refers to an earlier one, either way, and a publish is
    /// compressed once for all members with equal parameters.
    #[default]
    Shared,
    /// Each connection has its own, so that messages refer to earlier ones, as far as the other end
    /// lets them. It costs a connection up to 32 KiB for what it says and 250 to 400 KiB for what it
    /// is sent.
    Dedicated,
}

/// One end's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateSettings {
    /// Who shares what compresses and inflates.
    pub mode: DeflateMode,
    /// 1, the fastest, to 9.
    pub level: u8,
    /// Messages of fewer bytes are sent as they are.
    pub threshold_bytes: usize,
    /// The largest window of the server, as a power of two of bytes: 9 to 15.
    pub server_window_bits: u8,
    /// The largest window of the client, as a power of two of bytes: 9 to 15. A server can ask for
    /// less than 15 only of clients that offer to be asked.
    pub client_window_bits: u8,
}

impl Default for DeflateSettings {
    fn default() -> Self {
        Self {
            mode: DeflateMode::default(),
            level: 1,
            threshold_bytes: 256,
            server_window_bits: WINDOW_BITS_MAX,
            client_window_bits: WINDOW_BITS_MAX,
        }
    }
}

impl DeflateSettings {
    /// The server's answer to all `Sec-WebSocket-Extensions` of a request, in their order: to the
    /// first offer that can be kept to. `None` declines them all, which leaves the connection without
    /// compression (RFC 7692, 5.1).
    ///
    /// # Errors
    /// A header is no list of extensions.
    pub fn answer<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Answer>, MalformedExtensions> {
        if self.mode == DeflateMode::Off {
            return Ok(None);
        }
        let mut answer = None;
        // Read to the end, so that what is malformed is found wherever it stands.
        for extension in headers.into_iter().flat_map(extensions) {
            if let Extension::Deflate(offer) = extension?
                && answer.is_none()
            {
                answer = self.accept(offer);
            }
        }
        Ok(answer)
    }

    /// The client's offer; `None` where there is to be no compression.
    #[must_use]
    pub fn offer(&self) -> Option<Offer> {
        if self.mode == DeflateMode::Off {
            return None;
        }
        let shared = self.mode == DeflateMode::Shared;
        let less = |bits| (bits < WINDOW_BITS_MAX).then_some(bits);
        Some(Offer(Parameters {
            server_no_takeover: shared,
            client_no_takeover: shared,
            server_bits: less(within(self.server_window_bits)),
            client_bits: Some(less(within(self.client_window_bits))),
        }))
    }

    /// The answer to one offer, if it can be kept to.
    fn accept(&self, offer: Parameters) -> Option<Answer> {
        let shared = self.mode == DeflateMode::Shared;
        let server_bits = within(self.server_window_bits).min(offer.server_bits.unwrap_or(15));
        if !DEFLATE_WINDOW_BITS.contains(&server_bits) {
            return None;
        }
        // What the client says it will keep to holds without being asked for; the rest of the offer's
        // bits can be asked for only where they are offered.
        let promised = offer.client_bits.flatten().unwrap_or(WINDOW_BITS_MAX);
        let wanted = within(self.client_window_bits);
        let asked = (offer.client_bits.is_some() && wanted < promised).then_some(wanted);
        let said = Parameters {
            server_no_takeover: shared || offer.server_no_takeover,
            client_no_takeover: shared || offer.client_no_takeover,
            // What is asked for has to be answered (RFC 7692, 7.1.2.1).
            server_bits: (offer.server_bits.is_some() || server_bits < WINDOW_BITS_MAX)
                .then_some(server_bits),
            client_bits: asked.map(Some),
        };
        let agreed = Agreed::new(
            server_bits,
            asked.unwrap_or(promised),
            !said.server_no_takeover,
            !said.client_no_takeover,
        );
        Some(Answer { said, agreed })
    }
}

/// A server's answer to an offer: shown, it is the value of `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    said: Parameters,
    agreed: Agreed,
}

impl Answer {
    /// What is agreed with it.
    #[must_use]
    pub const fn agreed(&self) -> Agreed {
        self.agreed
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)
    }
}

/// A client's offer: shown, it is the value of `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer(Parameters);

impl Offer {
    /// Checks all `Sec-WebSocket-Extensions` of a response to this offer: what is agreed, or `None`
    /// if the server does not compress.
    ///
    /// # Errors
    /// The headers answer something else: the connection fails (RFC 7692, 5.1 and 7.1).
    pub fn check<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Agreed>, BadAnswer> {
        let mut all = headers.into_iter().flat_map(extensions);
        let Some(first) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(BadAnswer);
        }
        match first {
            Ok(Extension::Deflate(answer)) => self.check_one(answer).map(Some).ok_or(BadAnswer),
            _ => Err(BadAnswer),
        }
    }

    fn check_one(&self, answer: Parameters) -> Option<Agreed> {
        let offer = self.0;
        if offer.server_no_takeover && !answer.server_no_takeover {
            return None;
        }
        let server_bits = match (offer.server_bits, answer.server_bits) {
            (Some(most), answer) => answer.filter(|bits| *bits <= most)?,
            (None, answer) => answer.unwrap_or(WINDOW_BITS_MAX),
        };
        let promised = offer.client_bits.flatten().unwrap_or(WINDOW_BITS_MAX);
        let client_bits = match (offer.client_bits, answer.client_bits) {
            (_, None) => promised,
            (Some(_), Some(Some(asked))) if asked <= promised => asked,
            _ => return None,
        };
        // Nothing here compresses in a window of 8 bits.
        if !DEFLATE_WINDOW_BITS.contains(&client_bits) {
            return None;
        }
        let client_takeover = !offer.client_no_takeover && !answer.client_no_takeover;
        Some(Agreed::new(server_bits, client_bits, !answer.server_no_takeover, client_takeover))
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A server answered an offer with what it does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer;

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions does not answer the offer")
    }
}

impl std::error::Error for BadAnswer {}

/// A setting, as far as it is one.
fn within(bits: u8) -> u8 {
    bits.clamp(*DEFLATE_WINDOW_BITS.start(), *DEFLATE_WINDOW_BITS.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARED: DeflateSettings = DeflateSettings {
        mode: DeflateMode::Shared,
        level: 1,
        threshold_bytes: 0,
        server_window_bits: 15,
        client_window_bits: 15,
    };
    const DEDICATED: DeflateSettings = DeflateSettings { mode: DeflateMode::Dedicated, ..SHARED };
    const OFF: DeflateSettings = DeflateSettings { mode: DeflateMode::Off, ..SHARED };

    /// What is answered to these headers, and what is agreed with it.
    fn answer(settings: DeflateSettings, headers: &[&str]) -> Option<(String, Agreed)> {
        let answer = settings.answer(headers.iter().map(|header| header.as_bytes()));
        answer.unwrap().map(|answer| (answer.to_string(), answer.agreed()))
    }

    /// The answer to one offer, without the extension's name.
    fn to(settings: DeflateSettings, offer: &str) -> Option<String> {
        let (said, _) = answer(settings, &[&format!("permessage-deflate{offer}")])?;
        Some(said.strip_prefix("permessage-deflate").unwrap().to_owned())
    }

    #[test]
    fn shared_answers_never_take_context_over() {
        const NONE: &str = "; server_no_context_takeover; client_no_context_takeover";
        for (offer, more) in [
            ("", ""),
            ("; client_max_window_bits", ""),
            ("; client_max_window_bits=9", ""),
            ("; client_no_context_takeover; server_no_context_takeover", ""),
            ("; server_max_window_bits=15", "; server_max_window_bits=15"),
            ("; server_max_window_bits=9; client_max_window_bits", "; server_max_window_bits=9"),
        ] {
            assert_eq!(to(SHARED, offer), Some(format!("{NONE}{more}")), "{offer}");
        }
        let (_, agreed) =
            answer(SHARED, &["permessage-deflate; client_max_window_bits=10"]).unwrap();
        assert_eq!(agreed, Agreed::new(15, 10, false, false));
    }

    #[test]
    fn dedicated_answers_take_over_what_the_offer_permits() {
        for (offer, answered, server, client) in [
            ("", "", true, true),
            ("; server_no_context_takeover", "; server_no_context_takeover", false, true),
            ("; client_no_context_takeover", "; client_no_context_takeover", true, false),
        ] {
            assert_eq!(to(DEDICATED, offer).as_deref(), Some(answered), "{offer}");
            let (_, agreed) = answer(DEDICATED, &[&format!("permessage-deflate{offer}")]).unwrap();
            assert_eq!((agreed.server_takeover(), agreed.client_takeover()), (server, client));
        }
    }

    #[test]
    fn windows_are_the_smaller_of_both_ends() {
        let own = DeflateSettings { server_window_bits: 12, client_window_bits: 11, ..DEDICATED };
        for (offer, answered, server, client) in [
            // The server may say less than it was not asked for, but of the client it can't ask it.
            ("", "; server_max_window_bits=12", 12, 15),
            ("; server_max_window_bits=10", "; server_max_window_bits=10", 10, 15),
            ("; server_max_window_bits=14", "; server_max_window_bits=12", 12, 15),
            (
                "; client_max_window_bits",
                "; server_max_window_bits=12; client_max_window_bits=11",
                12,
                11,
            ),
            (
                "; client_max_window_bits=15",
                "; server_max_window_bits=12; client_max_window_bits=11",
                12,
                11,
            ),
            ("; client_max_window_bits=11", "; server_max_window_bits=12", 12, 11),
            ("; client_max_window_bits=8", "; server_max_window_bits=12", 12, 9),
        ] {
            assert_eq!(to(own, offer).as_deref(), Some(answered), "{offer}");
            let (_, agreed) = answer(own, &[&format!("permessage-deflate{offer}")]).unwrap();
            let windows = (agreed.server_window_bits(), agreed.client_window_bits());
            assert_eq!(windows, (server, client), "{offer}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_kept_to_is_taken() {
        let bits = |headers: &[&str]| {
            answer(DEDICATED, headers).map(|(_, agreed)| agreed.server_window_bits())
        };
        let deflate = |bits: u8| format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(bits(&[&deflate(8)]), None);
        assert_eq!(bits(&[&format!("{}, {}", deflate(8), deflate(9))]), Some(9));
        assert_eq!(bits(&[&deflate(8), "other; x=y", &deflate(11), &deflate(10)]), Some(11));
        assert_eq!(bits(&["permessage-deflate; nonsense, permessage-deflate"]), Some(15));
        assert_eq!(bits(&["x-webkit-deflate-frame", "permessage-bzip2"]), None);
        assert_eq!(bits(&[]), None);
        assert_eq!(bits(&[""]), None);
        let malformed = [&b"permessage-deflate"[..], b"a b"];
        assert_eq!(SHARED.answer(malformed), Err(MalformedExtensions));
        // Who speaks no extensions looks at none.
        assert_eq!(OFF.answer(malformed), Ok(None));
    }

    #[test]
    fn offers() {
        let offer = |settings: DeflateSettings| settings.offer().map(|offer| offer.to_string());
        assert_eq!(offer(OFF), None);
        assert_eq!(offer(DEDICATED).as_deref(), Some("permessage-deflate; client_max_window_bits"));
        let small = DeflateSettings { server_window_bits: 10, client_window_bits: 9, ..SHARED };
        assert_eq!(
            offer(small).as_deref(),
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=10; client_max_window_bits=9"
            )
        );
    }

    #[test]
    fn answers_are_checked_against_the_offer() {
        let check = |settings: DeflateSettings, headers: &[&str]| {
            let offer = settings.offer().unwrap();
            offer.check(headers.iter().map(|header| header.as_bytes()))
        };
        let one = |settings, answer: &str| {
            check(settings, &[&format!("permessage-deflate{answer}")]).map(Option::unwrap)
        };
        let small = DeflateSettings { server_window_bits: 10, client_window_bits: 9, ..SHARED };
        assert_eq!(check(SHARED, &[]), Ok(None));
        assert_eq!(check(SHARED, &["", ","]), Ok(None));
        assert_eq!(one(DEDICATED, ""), Ok(Agreed::new(15, 15, true, true)));
        let bits = "; server_max_window_bits=8; client_max_window_bits=9";
        assert_eq!(one(DEDICATED, bits), Ok(Agreed::new(9, 9, true, true)));
        let none = "; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(one(DEDICATED, none), Ok(Agreed::new(15, 15, false, false)));
        // Who promised not to take over does not, whatever is said to it.
        assert_eq!(one(SHARED, "; server_no_context_takeover"), one(SHARED, none));
        assert_eq!(
            one(small, "; server_no_context_takeover; server_max_window_bits=9"),
            Ok(Agreed::new(9, 9, false, false))
        );
        for (settings, answer) in [
            (SHARED, ""),
            (SHARED, "; client_no_context_takeover"),
            (DEDICATED, "; x"),
            (DEDICATED, "; client_max_window_bits"),
            (DEDICATED, "; client_max_window_bits=8"),
            (DEDICATED, "; server_max_window_bits"),
            (small, none),
            (small, "; server_no_context_takeover; server_max_window_bits=11"),
            (
                small,
                "; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=10",
            ),
        ] {
            assert_eq!(one(settings, answer), Err(BadAnswer), "{answer}");
        }
        for headers in [
            &["permessage-deflate, permessage-deflate"][..],
            &["permessage-deflate", "other"],
            &["other"],
            &["@"],
        ] {
            assert_eq!(check(DEDICATED, headers), Err(BadAnswer), "{headers:?}");
        }
    }

    fn settings() -> impl Strategy<Value = DeflateSettings> {
        let mode = prop_oneof![Just(DeflateMode::Shared), Just(DeflateMode::Dedicated)];
        (mode, 9..=15_u8, 9..=15_u8).prop_map(|(mode, server_window_bits, client_window_bits)| {
            DeflateSettings { mode, server_window_bits, client_window_bits, ..SHARED }
        })
    }

    proptest! {
        /// Both ends of this crate come to the same, and to nothing that one of them does not want.
        #[test]
        fn both_ends_agree(server in settings(), client in settings()) {
            let offer = client.offer().unwrap();
            let answer = server.answer([offer.to_string().as_bytes()]).unwrap().unwrap();
            let agreed = offer.check([answer.to_string().as_bytes()]).unwrap().unwrap();
            prop_assert_eq!(agreed, answer.agreed());
            let least = |a: u8, b: u8| a.min(b);
            prop_assert_eq!(
                agreed.server_window_bits(),
                least(server.server_window_bits, client.server_window_bits)
            );
            prop_assert_eq!(
                agreed.client_window_bits(),
                least(server.client_window_bits, client.client_window_bits)
            );
            let dedicated = |s: DeflateSettings| s.mode == DeflateMode::Dedicated;
            let both = dedicated(server) && dedicated(client);
            prop_assert_eq!(agreed.server_takeover(), both);
            prop_assert_eq!(agreed.client_takeover(), both);
        }
    }
}
