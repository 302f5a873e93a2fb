//! `plugins diff`: two bundles, each from the master's store or from a file.

use super::download;
use crate::{
    cli::plugins::Side, client::Client, commands::Context, exit::Exit, plugin::file, render::capabilities,
};
use anyhow::{Context as _, Result};
use windlass_bundle::Bundle;
use windlass_describe::{difference, operations};
use windlass_types::{api::bundles::BundleDifference, shape::Operation};

pub async fn diff(context: &Context, from: &Side, to: &Side) -> Result<Exit> {
    let (names, found) = match (from, to) {
        (Side::Stored(from), Side::Stored(to)) => {
            let [from, to] = [from.to_api(), to.to_api()];
            let found = context.client()?.bundle_difference(&from, &to).await?;
            ([from, to], found)
        }
        // The master has no file to compare with: it is done here, by the same code.
        (from, to) => {
            let mut client = None;
            let from = bundle(context, &mut client, from).await?;
            let to = bundle(context, &mut client, to).await?;
            ([&from, &to].map(name), between(&from, &to)?)
        }
    };
    let [from, to] = &names;
    context.out.data(&found, |look| capabilities::difference(from, to, &found, look))?;
    Ok(Exit::Success)
}

async fn bundle(context: &Context, client: &mut Option<Client>, side: &Side) -> Result<Bundle> {
    match side {
        Side::File(path) => Ok(file::open(path)?.bundle),
        Side::Stored(bundle) => {
            let client = match client {
                Some(client) => client,
                None => client.insert(context.client()?),
            };
            Ok(download(client, bundle).await?.bundle)
        }
    }
}

fn name(bundle: &Bundle) -> String {
    format!("{}@{}", bundle.manifest.name, bundle.manifest.version)
}

fn between(from: &Bundle, to: &Bundle) -> Result<BundleDifference> {
    let operations = |bundle: &Bundle| -> Result<Vec<Operation>> {
        operations(&bundle.manifest.name, &bundle.wit)
            .with_context(|| format!("cannot read the operations of {}", name(bundle)))
    };
    Ok(difference((&from.manifest, &operations(from)?), (&to.manifest, &operations(to)?)))
}
