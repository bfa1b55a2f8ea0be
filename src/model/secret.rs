//! A value that must not be seen: no `Display`, a `Debug` that hides it, memory wiped on drop.

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::Write;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// Returns the value itself. The caller is responsible for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Makes a password of 256 bits in hexadecimal, which is safe in URLs, redis.conf and shells.
    pub fn generate() -> Self {
        use ssh_key::rand_core::{OsRng, RngCore};
        let mut bytes = Zeroizing::new([0u8; 32]);
        OsRng.fill_bytes(&mut *bytes);
        Secret(hex::encode(*bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A value in JSON that may be a secret: a text is one; anything else is a value that is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(pub Option<Secret>);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

/// Used in place of `serde_json::Value`, which would keep copies that nobody wipes.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Shown, E> {
        Ok(Shown(Some(Secret::new(text))))
    }

    fn visit_string<E>(self, text: String) -> Result<Shown, E> {
        Ok(Shown(Some(Secret::new(text))))
    }

    fn visit_unit<E>(self) -> Result<Shown, E> {
        Ok(Shown(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shown, E> {
        Ok(Shown(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shown, E> {
        Ok(Shown(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shown, E> {
        Ok(Shown(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shown, E> {
        Ok(Shown(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shown, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shown(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shown, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shown(None))
    }
}

/// Returns JSON with secrets in wiped memory, measured first: a growing buffer would leave copies.
pub fn json(value: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    struct Length(usize);
    impl Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn a_text_in_json_is_a_secret_and_nothing_else_is() {
        let read: std::collections::BTreeMap<String, Shown> =
            serde_json::from_str(r#"{"A":"x","B":null,"C":[1,"y"],"D":{"E":"z"},"F":1.5}"#).unwrap();
        let texts: Vec<_> = read
            .values()
            .map(|shown| shown.0.as_ref().map(Secret::expose))
            .collect();
        assert_eq!(texts, [Some("x"), None, None, None, None]);
    }

    #[test]
    fn json_of_secrets_is_written_without_growing() {
        let bytes = json(&["a", "\u{e9}\"", "c"]).unwrap();
        assert_eq!(&**bytes, "[\"a\",\"\u{e9}\\\"\",\"c\"]".as_bytes());
        assert_eq!(bytes.len(), bytes.capacity());
    }

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (a, b) = (Secret::generate(), Secret::generate());
        assert_eq!(a.expose().len(), 64);
        assert_ne!(a, b);
    }
}
