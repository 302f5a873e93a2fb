//! Packages as files.

use crate::exit::Problem;
use anyhow::{Context as _, Result};
use std::{
    fs::{File, Permissions},
    io::{self, BufWriter},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use windlass_bundle::Package;

/// Read a package.
pub fn open(path: &Path) -> Result<Package> {
    Package::open(path).map_err(|error| {
        Problem::failed(format!("`{}` is no good package", path.display())).because(error).into()
    })
}

/// What a package is called unless told: `NAME-VERSION.tar`.
pub fn name(package: &Package) -> PathBuf {
    let manifest = &package.bundle.manifest;
    format!("{}-{}.tar", manifest.name, manifest.version).into()
}

/// Write a package: all of it is in the file afterwards, or the file is as it was.
pub fn save(package: &Package, path: &Path) -> Result<()> {
    replace(package, path).with_context(|| format!("cannot write `{}`", path.display()))
}

fn replace(package: &Package, path: &Path) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let permissions = match path.metadata() {
        Ok(there) => Some(there.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".windlass-")
        // Less what the umask takes away.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    package.write(BufWriter::new(file.as_file()))?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}
