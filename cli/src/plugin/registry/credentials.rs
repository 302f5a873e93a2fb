//! Who to be in a registry: what the command line says, or what `docker login` stored.

use super::Reference;
use crate::{cli::plugin::registry::Registry, config, exit::Problem, plugin::keys::read_secret};
use anyhow::Result;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

const PASSWORD: &str = "WINDLASS_REGISTRY_PASSWORD";

/// The credentials for a registry.
pub fn of(reference: &Reference, options: &Registry) -> Result<RegistryAuth> {
    let password = match &options.registry_password_file {
        Some(path) => Some(read_secret(path)?.lines().next().unwrap_or_default().to_owned()),
        None => config::environment(PASSWORD),
    };
    match (&options.registry_user, password) {
        (Some(user), Some(password)) => Ok(RegistryAuth::Basic(user.clone(), password)),
        (Some(_), None) => Err(Problem::usage("a name to log in with, and no password")
            .hint(format!("give `--registry-password-file`, or set `{PASSWORD}`"))
            .into()),
        (None, Some(_)) => Err(Problem::usage("a password, and no name to log in with")
            .hint("give `--registry-user`, or set `WINDLASS_REGISTRY_USER`")
            .into()),
        (None, None) => stored(&reference.registry),
    }
}

/// What `docker login` or `podman login` stored; nobody in particular where they stored nothing.
fn stored(registry: &str) -> Result<RegistryAuth> {
    use CredentialRetrievalError as Error;
    let found = match docker_credential::get_credential(registry) {
        Err(Error::ConfigNotFound | Error::NoCredentialConfigured | Error::ConfigReadError) => {
            docker_credential::get_podman_credential(registry)
        }
        found => found,
    };
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(_)) => {
            Err(Problem::failed(format!("the login stored for `{registry}` is an identity token"))
                .hint("it can not be used here: give `--registry-user` and `--registry-password-file`")
                .into())
        }
        Err(Error::ConfigNotFound | Error::NoCredentialConfigured | Error::ConfigReadError) => {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(Problem::failed(format!("cannot use the login stored for `{registry}`"))
            .because(error)
            .into()),
    }
}
