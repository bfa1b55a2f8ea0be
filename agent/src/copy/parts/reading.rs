//! Reads one value of the source, by what its type needs.

use super::part::Part;
use super::streams::{self, Held};
use super::windows::{Outcome, Take, Windows, scored};
use crate::copy::kind::Kind;
use crate::copy::source::Source;

/// Reads a key of the selected database. `size` is its bytes and `length` its elements, as far as
/// the source says. Returns what the target has then of a stream.
pub fn read(
    source: &mut Source,
    key: &[u8],
    kind: Kind,
    (size, length): (u64, u64),
    take: Take,
) -> Outcome<Option<Held>> {
    let mut windows = Windows::begin(source, key, size, length);
    match kind {
        Kind::String => windows.string(length, take),
        Kind::List => windows.list(take),
        Kind::Set => windows.scan(b"SSCAN", take, &mut |_, members| {
            Ok(vec![Part::any_order(&[b"SADD"], 1, members)])
        }),
        Kind::SortedSet => windows.scan(b"ZSCAN", take, &mut |_, members| Ok(vec![scored(members)])),
        Kind::Hash => windows.scan(b"HSCAN", take, &mut |windows, pairs| windows.hash(pairs)),
        Kind::Stream => return streams::read(&mut windows, take).map(Some),
    }?;
    Ok(None)
}
