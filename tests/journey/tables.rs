//! Tables of a real PostgreSQL go straight to the pair's master, which serves the app.

use testkit::access;
use testkit::postgres::Postgres;
use testkit::world::World;

const MAPPING: &str = "source: {url_env: TABLES_URL}
target: {redis: master}
tables:
- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}
";

pub fn reach_the_master(world: &World) {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text); \
         INSERT INTO markers SELECT n, 'seen ' || n FROM generate_series(1, 1000) n",
    );
    let file = world.folder().join("tables.yml");
    std::fs::write(&file, MAPPING).unwrap();
    let authority = world.folder().join("trusted.pem");
    let trusted = std::fs::read_to_string(&access::variables()["SSL_CERT_FILE"]).unwrap();
    std::fs::write(&authority, trusted + postgres.authority()).unwrap();
    let variables = [
        format!("TABLES_URL={}", postgres.url()),
        format!("SSL_CERT_FILE={}", authority.display()),
    ];
    let import = |verb: &str| {
        let variables = variables.each_ref().map(String::as_str);
        world.infra_with(&variables, &["import", verb, "--file", file.to_str().unwrap()])
    };
    import("plan").exits(0).says("writes  master");
    import("run").exits(0).says("1,000 written");
    import("verify").exits(0).says("identical: 1,000 rows");
    // Replication brings them to the replica too.
    world
        .infra(&["redis-cli", "replica", "GET", "marker:7"])
        .exits(0)
        .says("seen 7");
    postgres.sql("UPDATE markers SET status = 'changed' WHERE user_id = 7");
    import("verify").exits(5).says("marker:7");
}
