//! The SHA-256 of a certificate, as pins are written.

use crate::error::Error;
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a certificate in DER form; written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(certificate_der: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(certificate_der).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Accepts upper and lower case, and colons between bytes as openssl writes them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NoPin(text.to_string());
        let digits = text.trim().strip_prefix("sha256:").ok_or_else(wrong)?.replace(':', "");
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Digest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pin_survives_being_written_and_read(content in any::<Vec<u8>>()) {
            let digest = Digest::of(&content);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }

        #[test]
        fn reading_a_pin_never_panics(text in ".*") {
            let _ = text.parse::<Digest>();
        }
    }

    #[test]
    fn a_pin_in_the_form_of_openssl_is_read() {
        let colons =
            "sha256:E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";
        assert_eq!(colons.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn a_short_or_unnamed_pin_is_refused() {
        let whole = Digest::of(b"").to_string();
        for wrong in [
            &whole[..whole.len() - 1],
            &whole[..whole.len() - 2],
            &whole[7..],
            "sha256:",
            "",
            "md5:00",
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
