//! Random rows under random mappings, held against an independent reading of both servers.

use super::rig::Rig;
use std::collections::{BTreeMap, BTreeSet};

/// A small generator, so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = ["a", "Z", "é", "€", " ", "'", "\"", "\\", ":", "\t", "\n", "{}"];
        let length = self.below(8);
        (0..length)
            .map(|_| LETTERS[self.below(LETTERS.len() as u64) as usize])
            .collect()
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts as psql would show them are ambiguous, so they are read in hexadecimal.
fn read(rig: &Rig, select: &str) -> Vec<Vec<Option<String>>> {
    let lines = rig.postgres.sql(select);
    lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let cells = line.split('|').map(|cell| {
                let digits = cell.strip_prefix('x')?;
                let bytes: Vec<u8> = (0..digits.len() / 2)
                    .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                Some(String::from_utf8(bytes).unwrap())
            });
            cells.collect()
        })
        .collect()
}

#[test]
fn random_rows_are_in_redis_as_both_servers_are_read_independently() {
    let seed = std::env::var("IMPORT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("IMPORT_SEED={seed}");
    let mut random = Random(seed);
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE r (id int PRIMARY KEY, grp int NOT NULL, name text, word text, score float8 NOT NULL)");
    for round in 0..6 {
        rig.redis("FLUSHALL");
        rig.postgres.sql("TRUNCATE r");
        let rows: Vec<String> = (0..200)
            .map(|id| {
                let (name, word) = (random.text(), random.text());
                let name = if random.below(5) == 0 {
                    "NULL".into()
                } else {
                    literal(&name)
                };
                let score = random.below(1_000_000) as f64 / 7.0;
                format!(
                    "({}, {}, {name}, {}, {score})",
                    id * 3 - 100,
                    random.below(9),
                    literal(&word)
                )
            })
            .collect();
        rig.postgres.sql(&format!("INSERT INTO r VALUES {}", rows.join(", ")));
        let hex = |column: &str| format!("'x' || encode(convert_to({column}::text, 'UTF8'), 'hex')");
        let select = format!(
            "SELECT {}, {}, {}, {}, {} FROM r",
            hex("id"),
            hex("grp"),
            hex("name"),
            hex("word"),
            hex("score")
        );
        let rows = read(&rig, &select);
        assert_eq!(rows.len(), 200);
        let kinds = ["string", "hash", "set", "sorted_set"];
        let kind = kinds[(round as usize + random.below(2) as usize) % kinds.len()];
        check(&rig, kind, &rows);
        assert_eq!(rig.infra(&["verify"]).code, 0);
    }
}

fn check(rig: &Rig, kind: &str, rows: &[Vec<Option<String>>]) {
    let cell = |row: &[Option<String>], at: usize| row[at].clone().unwrap_or_default();
    let fields = match kind {
        "string" => "key: 'k:{{ id }}:{{ word }}', value: name",
        "hash" => "key: 'k:{{ word }}/{{ id }}', fields: {n: name, w: word}",
        "set" => "key: 'k:{{ grp }}', value: id",
        _ => "key: 'k:{{ grp }}', value: id, score: score",
    };
    rig.mapping(&format!("- {{table: r, type: {kind}, {fields}}}"));
    let ran = rig.infra(&["run"]);
    assert_eq!(ran.code, 0, "{kind}: {}", ran.text);
    let mut keys = BTreeSet::new();
    for row in rows {
        let (id, group, word) = (cell(row, 0), cell(row, 1), cell(row, 3));
        match kind {
            "string" => {
                let key = format!("k:{id}:{word}");
                let found: Option<String> = rig.redis_query(redis::cmd("GET").arg(&key));
                assert_eq!(found, row[2], "{key:?}");
                keys.extend(row[2].is_some().then_some(key));
            }
            "hash" => {
                let key = format!("k:{word}/{id}");
                let found: BTreeMap<String, String> = rig.redis_query(redis::cmd("HGETALL").arg(&key));
                let mut expected = BTreeMap::from([("w".to_owned(), word)]);
                expected.extend(row[2].clone().map(|name| ("n".to_owned(), name)));
                assert_eq!(found, expected, "{key:?}");
                keys.insert(key);
            }
            "set" => {
                let key = format!("k:{group}");
                let found: bool = rig.redis_query(redis::cmd("SISMEMBER").arg(&key).arg(&id));
                assert!(found, "{key:?} {id}");
                keys.insert(key);
            }
            _ => {
                let key = format!("k:{group}");
                let found: f64 = rig.redis_query(redis::cmd("ZSCORE").arg(&key).arg(&id));
                assert_eq!(found, cell(row, 4).parse::<f64>().unwrap(), "{key:?} {id}");
                keys.insert(key);
            }
        }
    }
    let found: BTreeSet<String> = rig.redis_query(redis::cmd("KEYS").arg("*"));
    assert_eq!(found, keys, "{kind}");
}
