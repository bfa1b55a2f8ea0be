//! Messages that no server should give.

use super::Decoder;
use crate::fuzz;

/// A table `t` of two columns, by its number 1.
const TABLE: &str = "R\0\0\0\u{1}public\0t\0d\0\u{2}\u{1}id\0\0\0\0\u{17}\0\0\0\u{1}\0v\0\0\0\0\u{19}\0\0\0\u{1}";

#[test]
fn messages_of_the_log_of_changes() {
    let row = "\0\u{2}t\0\0\0\u{1}7t\0\0\0\u{2}ab";
    let valid = [
        TABLE.to_owned(),
        format!("I\0\0\0\u{1}N{row}"),
        format!("U\0\0\0\u{1}K\0\u{2}t\0\0\0\u{1}6nN{row}"),
        "D\0\0\0\u{1}K\0\u{2}t\0\0\0\u{1}7n".to_owned(),
        "T\0\0\0\u{1}\0\0\0\0\u{1}".to_owned(),
        "C\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_owned(),
    ];
    let mut decoder = Decoder::default();
    for message in &valid {
        decoder.read(message.as_bytes()).unwrap();
    }
    let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
    fuzz::bytes(
        &valid,
        &["\u{7f}\u{7f}\u{7f}\u{7f}", "n", "u", "t", "N", "K", "T"],
        |input| {
            let mut decoder = Decoder::default();
            decoder.read(TABLE.as_bytes()).unwrap();
            drop(decoder.read(input));
        },
    );
}
