//! Candidates for completion that only the master knows.
//!
//! A shell waits while these run: a second at most, and in silence, whatever goes wrong.

use crate::{
    client::{Client, ClientError},
    config,
};
use clap_complete::CompletionCandidate;
use std::{ffi::OsStr, time::Duration};
use windlass_types::shape::Shape;

const PATIENCE: Duration = Duration::from_secs(1);

fn ask<T>(question: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Option<T> {
    windlass_identity::install_provider();
    // The command line is not parsed yet: the profile comes from the environment.
    let profile = config::environment("WINDLASS_PROFILE");
    let connection = config::connection(profile.as_deref(), &config::environment).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let client = Client::new(&connection, false).ok()?;
        tokio::time::timeout(PATIENCE, question(client)).await.ok()?.ok()
    })
}

fn candidates<I: IntoIterator<Item = (String, String)>>(
    current: &OsStr,
    all: Option<I>,
) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    all.into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(current))
        .map(|(name, help)| CompletionCandidate::new(name).help((!help.is_empty()).then(|| help.into())))
        .collect()
}

/// Names of operations, with the first line of their documentation.
pub fn operations(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.operations().await);
    candidates(
        current,
        all.map(|all| {
            all.into_iter().map(|info| {
                let docs = info.operation.docs.lines().next().unwrap_or_default().to_owned();
                (info.name.to_string(), docs)
            })
        }),
    )
}

/// Names of nodes.
pub fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.nodes(None).await);
    candidates(
        current,
        all.map(|all| all.into_iter().map(|node| (node.name.to_string(), node.id.to_string()))),
    )
}

/// Ids of recent jobs.
pub fn jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.jobs(50).await);
    candidates(
        current,
        all.map(|all| all.into_iter().map(|job| (job.id.to_string(), job.operation.to_string()))),
    )
}

/// Ids of recent plans.
pub fn plans(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.plans(50).await);
    candidates(current, all.map(|all| all.into_iter().map(|plan| (plan.id.to_string(), plan.title))))
}

/// Ids of recent runs.
pub fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.runs(50).await);
    candidates(current, all.map(|all| all.into_iter().map(|run| (run.id.to_string(), run.title))))
}

/// Names of plugins.
pub fn plugins(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.plugins().await);
    candidates(
        current,
        all.map(|all| all.into_iter().map(|plugin| (plugin.name.to_string(), plugin.versions.join(", ")))),
    )
}

/// Bundles in the store, as `name@version`.
pub fn bundles(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.bundles(None).await);
    candidates(
        current,
        all.map(|all| {
            all.into_iter()
                .map(|bundle| (format!("{}@{}", bundle.plugin, bundle.version), bundle.description))
        }),
    )
}

/// Names of plugins, and once one is typed its bundles.
pub fn plugins_and_bundles(current: &OsStr) -> Vec<CompletionCandidate> {
    if current.to_str().is_some_and(|text| text.contains('@')) { bundles(current) } else { plugins(current) }
}

/// Ids of recent deployments.
pub fn deployments(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ask(async |client| client.deployments(None, 50).await);
    candidates(
        current,
        all.map(|all| {
            all.into_iter()
                .map(|deployment| (deployment.id.to_string(), crate::render::deployment::what(&deployment)))
        }),
    )
}

/// `key=` for each parameter of the operation on the command line, and the values of enums.
pub fn arguments(current: &OsStr) -> Vec<CompletionCandidate> {
    // The shell passes the whole line; the operation is the only word on it that reads as one.
    let Some(name) = std::env::args().find_map(|word| word.parse::<windlass_types::OperationName>().ok())
    else {
        return Vec::new();
    };
    let info = ask(async move |client| client.operation(name.as_str()).await);
    let words = info.map(|info| {
        let params = info.operation.signature.params;
        params.into_iter().flat_map(|param| match values(&param.shape) {
            values if values.is_empty() => vec![(format!("{}=", param.name), param.docs)],
            values => {
                values.into_iter().map(|(value, docs)| (format!("{}={value}", param.name), docs)).collect()
            }
        })
    });
    candidates(current, words)
}

fn values(shape: &Shape) -> Vec<(String, String)> {
    match shape {
        Shape::Option { item } => values(item),
        Shape::Bool => ["true", "false"].map(|word| (word.to_owned(), String::new())).into(),
        Shape::Enum { cases, .. } => {
            cases.iter().map(|case| (case.name.clone(), case.docs.clone())).collect()
        }
        _ => Vec::new(),
    }
}
