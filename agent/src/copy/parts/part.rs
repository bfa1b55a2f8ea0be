//! A part of a value: the command that adds it to a key of the target.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The words of a command up to the key.
type Verb = &'static [&'static [u8]];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Elements of so many arguments each, in any order: a scan has none.
    Any(usize),
    /// Elements one after the other.
    Each,
    /// All arguments together, one part after the other.
    Fixed,
    /// A time and the fields that end at it, in any order.
    FieldEnds,
    /// As `Fixed`; the argument at this place is computed from two clocks.
    Without(usize),
}

/// The command that adds a part of a value to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    verb: Verb,
    arguments: Vec<Vec<u8>>,
    order: Order,
}

impl Part {
    /// Elements whose order means nothing, each of `size` arguments.
    pub fn any_order(verb: Verb, size: usize, arguments: Vec<Vec<u8>>) -> Part {
        Part {
            verb,
            arguments,
            order: Order::Any(size),
        }
    }

    /// Elements of one argument each, which stay in their order.
    pub fn each_in_order(verb: Verb, arguments: Vec<Vec<u8>>) -> Part {
        Part {
            verb,
            arguments,
            order: Order::Each,
        }
    }

    pub fn in_order(verb: Verb, arguments: Vec<Vec<u8>>) -> Part {
        Part {
            verb,
            arguments,
            order: Order::Fixed,
        }
    }

    /// As `in_order`; the argument at the place `computed` may differ a little at each look.
    pub fn in_order_without(verb: Verb, computed: usize, arguments: Vec<Vec<u8>>) -> Part {
        Part {
            verb,
            arguments,
            order: Order::Without(computed),
        }
    }

    /// The moment at which fields of a hash end, in milliseconds since 1970.
    pub fn field_ends(at: i64, fields: Vec<Vec<u8>>) -> Part {
        let mut arguments = vec![
            at.to_string().into_bytes(),
            b"FIELDS".to_vec(),
            fields.len().to_string().into_bytes(),
        ];
        arguments.extend(fields);
        Part {
            verb: &[b"HPEXPIREAT"],
            arguments,
            order: Order::FieldEnds,
        }
    }

    /// Returns the words of the command for this key.
    pub fn words<'a>(&'a self, key: &'a [u8]) -> Vec<&'a [u8]> {
        let arguments = self.arguments.iter().map(Vec::as_slice);
        self.verb.iter().copied().chain([key]).chain(arguments).collect()
    }

    /// Returns the value if this part is a whole string.
    pub fn string(&self) -> Option<&[u8]> {
        match (self.verb, self.arguments.as_slice()) {
            ([b"SET"], [value]) => Some(value),
            _ => None,
        }
    }

    /// Returns the first argument of each element: the fields of a hash.
    pub fn firsts(&self) -> impl Iterator<Item = &Vec<u8>> {
        let size = match self.order {
            Order::Any(size) => size,
            _ => usize::MAX,
        };
        self.arguments.iter().step_by(size.max(1))
    }

    pub fn bytes(&self) -> u64 {
        self.arguments.iter().map(|argument| argument.len() as u64).sum()
    }
}

/// The digest of a value that is seen in parts.
pub struct Digest {
    state: RandomState,
    sum: u64,
    place: u64,
}

impl Digest {
    pub fn new(state: RandomState) -> Digest {
        Digest {
            state,
            sum: 0,
            place: 0,
        }
    }

    pub fn add(&mut self, part: &Part) {
        match part.order {
            Order::Any(size) => {
                for element in part.arguments.chunks(size.max(1)) {
                    self.note(self.state.hash_one((part.verb, element)));
                }
            }
            Order::Each => {
                for element in &part.arguments {
                    self.note(self.state.hash_one((part.verb, self.place, element)));
                }
            }
            Order::Fixed => self.note(self.state.hash_one((part.verb, self.place, &part.arguments))),
            Order::FieldEnds => {
                for field in part.arguments.iter().skip(3) {
                    self.note(self.state.hash_one((part.verb, part.arguments.first(), field)));
                }
            }
            Order::Without(computed) => {
                let arguments = part.arguments.iter().enumerate();
                let kept: Vec<&Vec<u8>> = arguments
                    .filter_map(|(place, argument)| (place != computed).then_some(argument))
                    .collect();
                self.note(self.state.hash_one((part.verb, self.place, kept)));
            }
        }
    }

    pub fn with(mut self, part: &Part) -> Digest {
        self.add(part);
        self
    }

    fn note(&mut self, hash: u64) {
        self.sum = self.sum.wrapping_add(hash);
        self.place += 1;
    }

    pub fn finish(&self) -> u64 {
        self.state.hash_one((self.sum, self.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn digest(state: &RandomState, parts: &[Part]) -> u64 {
        let mut digest = Digest::new(state.clone());
        parts.iter().for_each(|part| digest.add(part));
        digest.finish()
    }

    #[test]
    fn the_order_of_a_scan_is_no_difference_and_that_of_a_list_is() {
        let state = RandomState::new();
        let set = |members: &[&str]| digest(&state, &[Part::any_order(&[b"SADD"], 1, words(members))]);
        assert_eq!(set(&["a", "b", "c"]), set(&["c", "a", "b"]));
        assert_ne!(set(&["a", "b"]), set(&["a", "c"]));
        assert_ne!(set(&["a", "b"]), set(&["a", "b", "b"]));
        let hash = |members: &[&str]| digest(&state, &[Part::any_order(&[b"HSET"], 2, words(members))]);
        assert_ne!(hash(&["a", "b", "c", "d"]), hash(&["a", "d", "c", "b"]));
        let list = |members: &[&str]| {
            let parts = members
                .iter()
                .map(|member| Part::each_in_order(&[b"RPUSH"], words(&[member])));
            digest(&state, &parts.collect::<Vec<_>>())
        };
        assert_ne!(list(&["a", "b"]), list(&["b", "a"]));
        // The windows of two looks may differ.
        assert_eq!(
            list(&["a", "b"]),
            digest(&state, &[Part::each_in_order(&[b"RPUSH"], words(&["a", "b"]))])
        );
    }

    #[test]
    fn a_field_that_ends_at_another_time_is_a_difference_and_a_clock_read_twice_is_none() {
        let state = RandomState::new();
        let ends = |at, fields: &[&str]| digest(&state, &[Part::field_ends(at, words(fields))]);
        assert_eq!(ends(5, &["a", "b"]), ends(5, &["b", "a"]));
        assert_ne!(ends(5, &["a", "b"]), ends(6, &["a", "b"]));
        let claim = |time, count| {
            digest(
                &state,
                &[Part::in_order_without(&[b"XCLAIM"], 1, words(&["1-1", time, count]))],
            )
        };
        assert_eq!(claim("100", "2"), claim("101", "2"));
        assert_ne!(claim("100", "2"), claim("100", "3"));
    }
}
