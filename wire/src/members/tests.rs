use super::*;

fn of_words(words: &str) -> Option<String> {
    let arguments: Vec<Argument> = words.split(' ').map(|word| Argument::Kept(word.into())).collect();
    let (keys, members) = of(&arguments)?;
    let keys: Vec<&[u8]> = keys.iter().filter_map(Argument::bytes).collect();
    assert!(keys == [b"key"] || keys == [&b"key"[..], b"other"], "{words}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match members {
        Members::Named(names) => names.into_iter().map(text).collect::<Vec<_>>().join(" "),
        Members::Ends => "ends".into(),
        Members::Group(group) => format!("group {}", text(group)),
    })
}

fn named(arguments: &[Argument]) -> Option<Vec<&[u8]>> {
    match of(arguments)?.1 {
        Members::Named(names) => Some(names),
        _ => None,
    }
}

#[test]
fn members_are_found_where_each_command_has_them() {
    for (words, members) in [
        ("hset key a 1 b 2", "a b"),
        ("HMSET key a 1", "a"),
        ("HSETNX key a 1", "a"),
        ("HINCRBY key a 5", "a"),
        ("HINCRBYFLOAT key a 5", "a"),
        ("HDEL key a b", "a b"),
        ("HEXPIRE key 10 NX FIELDS 2 a b", "a b"),
        ("HPEXPIREAT key 10 FIELDS 1 a", "a"),
        ("HPERSIST key FIELDS 1 a", "a"),
        ("HGETDEL key FIELDS 1 a", "a"),
        ("HGETEX key EX 5 FIELDS 1 a", "a"),
        ("HSETEX key FNX EX 5 FIELDS 2 a 1 b FIELDS", "a b"),
        ("SADD key a b", "a b"),
        ("SREM key a", "a"),
        ("ZADD key 1 a 2 b", "a b"),
        ("ZADD key NX CH 1 a", "a"),
        ("ZINCRBY key 1 a", "a"),
        ("ZREM key a b", "a b"),
        ("GEOADD key XX 1 2 a 3 4 b", "a b"),
        ("XADD key * a 1", "ends"),
        ("XADD key 5-* DELREF 1", "ends"),
        ("xadd key nomkstream maxlen ~ 1000 limit 5 * a 1", "ends"),
        ("XADD key MINID 5-1 5-7 a 1", "ends"),
        ("XADD key MAXLEN = 3 KEEPREF 7 a 1", "ends"),
        ("XTRIM key MAXLEN 3", "ends"),
        ("XTRIM key MINID ~ 5 LIMIT 0", "ends"),
        ("XDEL key 1-1 2", "1-1 2"),
        ("XACK key jobs 1-1", "group jobs"),
        ("XCLAIM key jobs me 0 1-1", "group jobs"),
        ("XAUTOCLAIM key jobs me 0 0", "group jobs"),
        ("XGROUP CREATE key jobs $", "group jobs"),
        ("XGROUP destroy key jobs", "group jobs"),
        ("XREADGROUP GROUP jobs me STREAMS key >", "group jobs"),
        (
            "xreadgroup count 5 group GROUP STREAMS block 0 streams key other > >",
            "group GROUP",
        ),
    ] {
        assert_eq!(of_words(words).as_deref(), Some(members), "{words}");
    }
}

#[test]
fn members_that_a_request_does_not_name_may_be_any() {
    for words in [
        "SPOP key",
        "ZPOPMIN key",
        "DEL key",
        "SDIFFSTORE key a b",
        "EXPIRE key 5",
        "HSET key",
        "HEXPIRE key 10 FIELDS 3 a b",
        "HEXPIRE key 10 FIELDS x a",
        "ZADD key NX",
        "HGETDEL key",
        "XADD key DELREF MAXLEN 3 * a 1",
        "XADD key MAXLEN 3 ACKED * a 1",
        "XADD key IDMP me 1 * a 1",
        "XTRIM key MAXLEN 3 DELREF",
        "XSETID key 5-1",
        "XDELEX key IDS 1 5-1",
        "XACK key",
        "XGROUP HELP",
        "XREADGROUP GROUP jobs me CLAIMS 5 STREAMS key >",
    ] {
        assert_eq!(of_words(words), None, "{words}");
    }
    let kept = |word: &str| Argument::Kept(word.into());
    let key_like_a_word = ["HEXPIRE", "FIELDS", "1", "FIELDS", "1", "a"].map(kept);
    assert_eq!(named(&key_like_a_word), Some(vec![&b"a"[..]]));
    let long = [kept("HSET"), kept("key"), Argument::Skipped(1 << 20), kept("1")];
    assert_eq!(of(&long), None);
    let value = [kept("HSET"), kept("key"), kept("a"), Argument::Skipped(1 << 20)];
    assert_eq!(named(&value), Some(vec![&b"a"[..]]));
}
