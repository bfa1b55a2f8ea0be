//! Every type of column, held against an independent reading by psql.

use super::rig::Rig;
use std::collections::BTreeMap;

/// Values of each type, as SQL.
const VALUES: &str = "bigint|-9223372036854775808
bit(3)|B'101'
bit varying|B'10110'
boolean|true
box|'((1,2),(3,4))'
bytea|'\\x00ff0a'
char(5)|'ab'
varchar|'tab\\tand ''quote'''
cidr|'10.0.0.0/8'
circle|'<(1,2),3>'
date|'2026-02-28'
double precision|0.1
double precision|'NaN'
inet|'::1'
integer|-2147483648
interval|'1 year 2 days 03:04:05.6'
json|'{\"a\": [1, null]}'
jsonb|'{\"b\":1,\"a\":\"ü\"}'
line|'{1,2,3}'
lseg|'((1,2),(3,4))'
macaddr|'08:00:2b:01:02:03'
macaddr8|'08:00:2b:01:02:03:04:05'
money|'12.34'
name|'a name'
numeric|123456789012345678901234567890.000000001
oid|4294967295
path|'((1,2),(3,4))'
pg_lsn|'16/B374D848'
point|'(1,2)'
polygon|'((1,2),(3,4),(5,6))'
real|1.1
smallint|-32768
text|E'line\\nbreak\\\\ \\r\\t ü €'
time|'04:05:06.789'
timetz|'04:05:06.789+02'
timestamp|'2026-01-31 10:15:00.123456'
timestamptz|'2026-01-31 10:15:00.123456+02'
tsquery|'a & b'
tsvector|'a b c'
uuid|'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
xml|'<a>b</a>'
int4range|'[1,10)'
nummultirange|'{[1,2),[3,4)}'
text[]|ARRAY['a,b', NULL, 'c\"d', '']
integer[]|ARRAY[[1,2],[3,4]]
mood|'sad'
posint|7";

#[test]
fn every_stock_type_comes_back_as_psql_reads_it_and_a_composite_is_refused_by_name() {
    let rig = Rig::start();
    rig.postgres.sql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b int)");
    let values: Vec<(&str, &str)> = VALUES.lines().map(|line| line.split_once('|').unwrap()).collect();
    let columns: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, (kind, _))| format!("c{at} {kind}"))
        .collect();
    rig.postgres.sql(&format!(
        "CREATE TABLE every (id int PRIMARY KEY, {})",
        columns.join(", ")
    ));
    let literals: Vec<&str> = values.iter().map(|(_, value)| *value).collect();
    rig.postgres.sql(&format!(
        "INSERT INTO every VALUES (1, {}); INSERT INTO every (id) VALUES (2)",
        literals.join(", ")
    ));
    rig.mapping_with(
        "encode: {time: postgres, bytes: hex, bool: letters}",
        "- {table: every, key: 'every:{{ id }}', type: hash}\n- {table: every, name: documents, key: 'json:{{ id }}', type: json, encode: {'null': empty}}",
    );
    let ran = rig.infra(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.text);
    let held: BTreeMap<String, String> = rig.redis_query(redis::cmd("HGETALL").arg("every:1"));
    assert_eq!(held.len(), values.len() + 1, "every value has a field");
    let settings =
        "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = iso_8601; SET TimeZone = 'UTC'; SET extra_float_digits = 1;";
    for (at, (kind, _)) in values.iter().enumerate() {
        let found = &held[&format!("c{at}")];
        let expected = rig.postgres.sql(&format!(
            "{settings} SELECT encode(convert_to(format('%s', c{at}), 'UTF8'), 'hex') FROM every WHERE id = 1"
        ));
        let expected = expected.lines().last().unwrap().trim().to_owned();
        let found = if kind.starts_with("bytea") {
            format!("\\x{found}")
        } else {
            found.clone()
        };
        let found: String = if kind.contains("[]") {
            continue;
        } else {
            found.bytes().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(found, expected, "{kind}");
    }
    let array = values.iter().position(|(kind, _)| *kind == "text[]").unwrap();
    assert_eq!(held[&format!("c{array}")], r#"["a,b",null,"c\"d",""]"#);
    assert_eq!(held[&format!("c{}", array + 1)], "[[1,2],[3,4]]");
    let empty: BTreeMap<String, String> = rig.redis_query(redis::cmd("HGETALL").arg("every:2"));
    assert_eq!(empty, BTreeMap::from([("id".to_owned(), "2".to_owned())]));
    let document: serde_json::Value = serde_json::from_str(&rig.redis_text("GET json:1")).unwrap();
    assert_eq!(document["c0"], serde_json::json!(i64::MIN));
    assert_eq!(document["c17"]["a"], "ü");
    assert_eq!(rig.infra(&["verify"]).code, 0);

    rig.postgres.sql("ALTER TABLE every ADD COLUMN p pair");
    let refused = rig.infra(&["plan"]);
    assert_eq!(refused.code, 64, "{}", refused.text);
    assert!(
        refused.text.contains("the column p") && refused.text.contains("pair"),
        "{}",
        refused.text
    );
}
