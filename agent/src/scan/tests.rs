use super::*;
use proptest::prelude::*;

fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn start() -> Scanner {
    Scanner::at(Boundary::default())
}

#[test]
fn a_second_ends_where_the_next_is_annotated() {
    let mut log = b"#TS:100\r\n".to_vec();
    log.extend(command(&[b"SET", b"a", b"1"]));
    let end = log.len() as u64;
    log.extend(b"#TS:102\r\n");
    log.extend(command(&[b"SET", b"a", b"2"]));
    for (last, wanted) in [(99, 0), (100, end), (101, end)] {
        let mut scanner = start();
        assert!(scanner.feed_until(&log, Some(last)).unwrap());
        assert_eq!(scanner.boundary().offset, wanted, "until {last}");
    }
    let mut scanner = start();
    assert!(!scanner.feed_until(&log, Some(102)).unwrap());
    assert_eq!(
        scanner.boundary(),
        Boundary {
            offset: log.len() as u64,
            second: Some(102)
        }
    );
}

#[test]
fn an_annotation_inside_a_value_is_a_value() {
    let log = command(&[b"SET", b"#TS:5\r\n", b"\r\n#TS:9\r\n*1\r\n$4\r\nEXEC\r\n"]);
    let mut scanner = start();
    assert!(!scanner.feed_until(&log, Some(1)).unwrap());
    assert_eq!(scanner.boundary().offset, log.len() as u64);
    assert_eq!(scanner.second(), None);
}

#[test]
fn an_open_transaction_is_not_whole() {
    let mut log = command(&[b"SET", b"a", b"1"]);
    let before = log.len() as u64;
    log.extend(command(&[b"MULTI"]));
    log.extend(command(&[b"INCR", b"a"]));
    let mut scanner = start();
    scanner.feed(&log).unwrap();
    assert_eq!(scanner.boundary().offset, before);
    scanner.feed(&command(&[b"EXEC"])).unwrap();
    assert_eq!(scanner.boundary().offset, scanner.offset());
}

#[test]
fn a_clock_that_goes_back_does_not_bring_a_second_back() {
    let mut scanner = start();
    scanner.feed(b"#TS:100\r\n#TS:95\r\n").unwrap();
    assert_eq!(scanner.second(), Some(100));
}

#[test]
fn what_is_no_log_is_an_error_with_its_place() {
    let mut log = command(&[b"SET", b"a", b"1"]);
    let place = log.len() as u64;
    log.extend([0; 2000]);
    assert_eq!(start().feed(&log).unwrap_err().offset, place);
    for wrong in [
        &b"*0\r\n"[..],
        b"*x\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\n",
        b"SET a\r\n",
    ] {
        assert!(start().feed(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_read_the_same(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4), 0..12),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let mut log = Vec::new();
        for (index, arguments) in commands.iter().enumerate() {
            log.extend(format!("#TS:{index}\r\n").into_bytes());
            log.extend(command(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        }
        let mut whole = start();
        whole.feed(&log).unwrap();
        let mut pieces = start();
        let mut rest = &log[..];
        for cut in cuts.iter().cycle() {
            let cut = (*cut).min(rest.len());
            pieces.feed(&rest[..cut]).unwrap();
            rest = &rest[cut..];
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(whole.boundary(), pieces.boundary());
        prop_assert_eq!(whole.offset(), log.len() as u64);
    }

    #[test]
    fn malformed_input_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = start().feed(&bytes);
    }
}
