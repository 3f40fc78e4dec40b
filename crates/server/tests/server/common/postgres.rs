//! Databases of PostgreSQL for one test each.

use std::process::Command;

/// A new database on the server under test; it is removed with this.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    /// `None` where PostgreSQL is left out on purpose.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var("ASSAY_TEST_POSTGRES") else {
            let intended = std::env::var("ASSAY_TEST_NO_POSTGRES").is_ok_and(|value| value == "1");
            assert!(
                intended,
                "ASSAY_TEST_POSTGRES is not set; set it to what `scripts/postgres-for-tests start DIR` prints, or set \
                 ASSAY_TEST_NO_POSTGRES=1 to leave PostgreSQL out"
            );
            return None;
        };
        let name = format!("server_{}_{test}", std::process::id());
        admin(&server, &format!("CREATE DATABASE {name}"));
        let (address, options) = server.split_once('?').unwrap_or((&server, ""));
        let (address, _) = address.rsplit_once('/').expect("a URL with a database");
        let url = format!("{address}/{name}?{options}");
        Some(Self { server, name, url })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            admin(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

fn admin(server: &str, sql: &str) {
    let output = Command::new("psql").args(["-q", "-d", server, "-c", sql]).output();
    let output = output.expect("psql (package postgresql-client) runs");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
}
