//! Which address to try next.
//!
//! All addresses of all masters, in turn: the masters in the order of the configuration, the addresses
//! of one name in random order, so that hosts spread over masters behind one name. Names are looked up
//! again each round, so a changed DNS record is followed.

use crate::config::host_and_port;
use rand::seq::SliceRandom as _;
use std::{collections::VecDeque, net::SocketAddr, time::Duration};

/// Limit of one name lookup.
const LOOKUP: Duration = Duration::from_secs(5);

/// An address to dial, with the name that its certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` as configured.
    pub name: String,
    /// Where that is.
    pub address: SocketAddr,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name == self.address.to_string() {
            f.write_str(&self.name)
        } else {
            write!(f, "{} ({})", self.name, self.address)
        }
    }
}

/// No name could be looked up.
#[derive(Debug, thiserror::Error)]
#[error("no master can be looked up: {0}")]
pub struct NoAddress(String);

/// Goes round and round.
#[derive(Debug)]
pub struct Rotation {
    names: Vec<String>,
    round: VecDeque<Endpoint>,
    /// Addresses in the last round.
    count: usize,
}

impl Rotation {
    /// Over these `host:port`.
    pub fn new(names: Vec<String>) -> Self {
        Rotation { names, round: VecDeque::new(), count: 1 }
    }

    /// How many addresses there are.
    pub fn alternatives(&self) -> usize {
        self.count
    }

    /// Begin a new round at the next call.
    pub fn restart(&mut self) {
        self.round.clear();
    }

    /// The next address.
    ///
    /// # Errors
    /// If a new round begins and no name has an address.
    pub async fn next(&mut self) -> Result<Endpoint, NoAddress> {
        if self.round.is_empty() {
            let mut problems = Vec::new();
            for name in &self.names {
                match lookup(name).await {
                    Ok(mut found) => {
                        found.shuffle(&mut rand::rng());
                        self.round.extend(found);
                    }
                    Err(problem) => problems.push(format!("`{name}`: {problem}")),
                }
            }
            self.count = self.round.len().max(1);
            if self.round.is_empty() {
                return Err(NoAddress(problems.join("; ")));
            }
        }
        self.round.pop_front().ok_or_else(|| NoAddress("no master is configured".into()))
    }
}

/// All addresses of a `host:port`.
///
/// # Errors
/// With the resolver's words.
pub async fn lookup(name: &str) -> Result<Vec<Endpoint>, String> {
    let (host, port) = host_and_port(name)?;
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| "the name server does not answer".to_owned())?
        .map_err(|error| error.to_string())?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for address in found {
        let endpoint = Endpoint { name: name.to_owned(), address };
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    if endpoints.is_empty() { Err("the name has no address".into()) } else { Ok(endpoints) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_has_its_turn() {
        let names = vec!["127.0.0.1:1".to_owned(), "[::1]:2".to_owned()];
        let mut rotation = Rotation::new(names);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(rotation.next().await.unwrap().address.to_string());
        }
        assert_eq!(seen, ["127.0.0.1:1", "[::1]:2", "127.0.0.1:1", "[::1]:2"]);
        assert_eq!(rotation.alternatives(), 2);
    }

    #[tokio::test]
    async fn a_name_without_address_is_told() {
        let mut rotation = Rotation::new(vec!["no-such-name.invalid:7401".into()]);
        let error = rotation.next().await.unwrap_err().to_string();
        assert!(error.contains("`no-such-name.invalid:7401`"), "{error}");
    }
}
