//! How a row's entry differs from what Redis holds under its key.

use crate::model::import::{Entry, Held, Part, Tolerances};

/// Compares a row's entry with what its key holds; `None` if they are the same.
///
/// A shared key may hold members of other rows too; any other key holds this row's value alone.
pub fn difference(entry: &Entry, held: &Held, tolerate: &Tolerances) -> Option<String> {
    let (part, expires_at) = match held {
        Held::Nothing => return Some("it is not in Redis".into()),
        Held::OtherType(found) => return Some(format!("Redis holds a {found} there")),
        Held::Part(part, expires_at) => (part, *expires_at),
    };
    part_difference(&entry.part, part, tolerate).or_else(|| expiry_difference(entry.expires_at, expires_at, tolerate))
}

fn part_difference(expected: &Part, found: &Part, tolerate: &Tolerances) -> Option<String> {
    match (expected, found) {
        (Part::String(expected), Part::String(found)) => {
            let near = || match (number(expected), number(found), tolerate.float) {
                (Some(expected), Some(found), Some(by)) => (expected - found).abs() <= by,
                _ => false,
            };
            (expected != found && !near()).then(|| format!("its {} bytes differ", found.len()))
        }
        (Part::Hash(expected), Part::Hash(found)) => {
            for (field, value) in expected {
                let name = String::from_utf8_lossy(field);
                match found.iter().find(|(other, _)| other == field) {
                    None => return Some(format!("the field {name} is not in Redis")),
                    Some((_, other)) if other != value => return Some(format!("the field {name} differs")),
                    Some(_) => {}
                }
            }
            let extra = found
                .iter()
                .find(|(field, _)| !expected.iter().any(|(other, _)| other == field));
            extra.map(|(field, _)| format!("the field {} is only in Redis", String::from_utf8_lossy(field)))
        }
        (Part::List(expected), Part::List(found)) => (expected != found).then(|| {
            format!(
                "the list differs: {} elements in Redis, {} in PostgreSQL",
                found.len(),
                expected.len()
            )
        }),
        (Part::Set(expected), Part::Set(found)) => {
            let missing = expected.iter().find(|member| !found.contains(member));
            let extra = found.iter().find(|member| !expected.contains(member));
            match (missing, extra) {
                (Some(member), _) => Some(format!(
                    "the member {} is not in Redis",
                    String::from_utf8_lossy(member)
                )),
                (None, Some(member)) => Some(format!(
                    "the member {} is only in Redis",
                    String::from_utf8_lossy(member)
                )),
                (None, None) => None,
            }
        }
        (Part::SortedSet(expected), Part::SortedSet(found)) => expected.iter().find_map(|(member, score)| {
            let name = String::from_utf8_lossy(member);
            match found.iter().find(|(other, _)| other == member) {
                None => Some(format!("the member {name} is not in Redis")),
                Some((_, other)) => {
                    let same = other == score || (other - score).abs() <= tolerate.float.unwrap_or(0.0);
                    (!same).then(|| format!("the member {name} has the score {other} in Redis, {score} in PostgreSQL"))
                }
            }
        }),
        (Part::String(_) | Part::Hash(_) | Part::List(_) | Part::Set(_) | Part::SortedSet(_), _) => {
            Some("it has another type in Redis".into())
        }
    }
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn expiry_difference(expected: Option<i64>, found: Option<i64>, tolerate: &Tolerances) -> Option<String> {
    let by = tolerate
        .time
        .map_or(0, |span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX));
    match (expected, found) {
        (Some(expected), Some(found)) if (expected - found).abs() <= by => None,
        (None, None) => None,
        (Some(_), None) => Some("it does not expire in Redis".into()),
        (None, Some(_)) => Some("it expires in Redis, and no row says so".into()),
        (Some(expected), Some(found)) => Some(format!("it expires {} ms off", found - expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    fn differs(expected: &Part, found: &Part) -> bool {
        part_difference(expected, found, &Tolerances::default()).is_some()
    }

    #[test]
    fn each_type_differs_by_one_value_missing_changed_or_extra() {
        let string = |value: &str| Part::String(text(value));
        let list = |items: &[&str]| Part::List(items.iter().map(|item| text(item)).collect());
        let set = |items: &[&str]| Part::Set(items.iter().map(|item| text(item)).collect());
        let hash = |fields: &[(&str, &str)]| Part::Hash(fields.iter().map(|(f, v)| (text(f), text(v))).collect());
        let scores = |members: &[(&str, f64)]| Part::SortedSet(members.iter().map(|(m, s)| (text(m), *s)).collect());
        for (expected, same, others) in [
            (string("a"), string("a"), vec![string("b"), list(&["a"])]),
            (
                list(&["a", "b"]),
                list(&["a", "b"]),
                vec![list(&["b", "a"]), list(&["a"])],
            ),
            (
                set(&["a", "b"]),
                set(&["b", "a"]),
                vec![set(&["a"]), set(&["a", "b", "c"])],
            ),
            (
                hash(&[("a", "1")]),
                hash(&[("a", "1")]),
                vec![hash(&[("a", "2")]), hash(&[]), hash(&[("a", "1"), ("b", "1")])],
            ),
            // The other members of a shared key belong to other rows.
            (
                scores(&[("a", 1.0)]),
                scores(&[("a", 1.0), ("b", 1.0)]),
                vec![scores(&[("a", 2.0)]), scores(&[])],
            ),
        ] {
            assert!(!differs(&expected, &same), "{expected:?}");
            for other in others {
                assert!(differs(&expected, &other), "{expected:?} {other:?}");
            }
        }
    }

    #[test]
    fn only_a_named_tolerance_makes_values_equal() {
        let (one, other) = (Part::String(text("1.0000001")), Part::String(text("1.0")));
        assert!(differs(&one, &other));
        let tolerate = Tolerances {
            float: Some(1e-6),
            time: None,
        };
        assert_eq!(part_difference(&one, &other, &tolerate), None);
        assert!(expiry_difference(Some(1000), Some(1001), &tolerate).is_some());
        let tolerate: Tolerances = serde_yaml::from_str("time: 5ms").unwrap();
        assert_eq!(expiry_difference(Some(1000), Some(1001), &tolerate), None);
        assert!(expiry_difference(Some(1000), None, &tolerate).is_some());
    }
}
