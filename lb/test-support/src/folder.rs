//! Scratch folders with a configuration.

use std::net::SocketAddr;

use tempfile::TempDir;

/// A folder with `config` as `lb.toml`.
pub fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lb.toml"), config).unwrap();
    folder
}

/// `[[backends]]` entries for these servers.
pub fn backends(servers: &[(&str, SocketAddr)]) -> String {
    servers.iter().map(|(id, address)| format!("[[backends]]\nid = \"{id}\"\naddress = \"{address}\"\n")).collect()
}
