//! What lies where in a package.

use crate::{DeployError, Pack, Result, file, manual, run};
use std::{
    fmt::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Where this package of Cargo lies: control files, units, configuration.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Lay out everything but `DEBIAN`.
pub(crate) fn lay_out(pack: &Pack<'_>, name: &str, programs: &[(&str, &str)], root: &Path) -> Result<()> {
    for (folder, program) in programs {
        let from = pack.programs.join(program);
        if !from.is_file() {
            return Err(DeployError::NotBuilt { path: from });
        }
        let to = root.join(folder).join(program);
        copy(&from, &to, 0o755)?;
        // Those that people get were stripped by the linker; others would be ten times as large.
        run(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&to))?;
    }
    let here = Path::new(HERE);
    let doc = root.join("usr/share/doc").join(name);
    copy(&here.join("debian/copyright"), &doc.join("copyright"), 0o644)?;
    let date =
        run(Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{}", pack.time_s)))?;
    let changelog = format!(
        "windlass ({}) unstable; urgency=medium\n\n  * The history of the repository tells what changed.\n\n \
         -- Windlass maintainers <maintainers@windlass.example>  {}\n",
        pack.version,
        date.trim()
    );
    write(&doc.join("changelog"), changelog.as_bytes())?;
    match name {
        "windlass-host" => {
            service(name, root)?;
            // Not as /etc/windlass/host.toml: every node has one of its own, and a question about it at an
            // upgrade would hold up a fleet.
            copy(&here.join("host.toml"), &doc.join("examples/host.toml"), 0o644)?;
            copy(&pack.docs.join("host-configuration.md"), &doc.join("host-configuration.md"), 0o644)?;
            make_dir(&root.join("etc/windlass"))?;
            manual::page(&root.join("usr/bin"), name, root)?;
            manual::of_compiler(root)?;
        }
        "windlass-master" => {
            service(name, root)?;
            copy(&here.join("master.env"), &root.join("etc/windlass/master.env"), 0o640)?;
            let overrides = root.join("usr/share/lintian/overrides").join(name);
            copy(&here.join("debian").join(name).join("lintian-overrides"), &overrides, 0o644)?;
            copy(&pack.docs.join("operations.md"), &doc.join("operations.md"), 0o644)?;
            manual::page(&root.join("usr/bin"), name, root)?;
        }
        _ => command_line(root)?,
    }
    let mut texts = files(&root.join("usr/share/man"))?;
    texts.push(doc.join("changelog"));
    // Without name and time: the same text gives the same bytes.
    run(Command::new("gzip").args(["-9", "--no-name"]).args(texts)).map(drop)
}

fn service(name: &str, root: &Path) -> Result<()> {
    let unit = format!("{name}.service");
    copy(&Path::new(HERE).join("systemd").join(&unit), &root.join("lib/systemd/system").join(&unit), 0o644)
}

/// Completion of three shells, and the manual, both of which the program itself writes.
fn command_line(root: &Path) -> Result<()> {
    let program = root.join("usr/bin/windlass");
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/windlass"),
        ("zsh", "usr/share/zsh/vendor-completions/_windlass"),
        ("fish", "usr/share/fish/vendor_completions.d/windlass.fish"),
    ] {
        let script = run(Command::new(&program).args(["completion", shell]))?;
        write(&root.join(path), script.as_bytes())?;
    }
    let man = root.join("usr/share/man/man1");
    make_dir(&man)?;
    run(Command::new(&program).arg("man").arg(&man)).map(drop)
}

/// Write `DEBIAN`: the control file with its placeholders filled, scripts, conffiles and checksums.
pub(crate) fn control(name: &str, root: &Path, values: &[(&str, &str)]) -> Result<()> {
    let from = Path::new(HERE).join("debian").join(name);
    let to = root.join("DEBIAN");
    let files = files(root)?;
    let inside: Vec<&Path> = files.iter().filter_map(|path| path.strip_prefix(root).ok()).collect();
    let sums = run(Command::new("md5sum").current_dir(root).args(&inside))?;
    let mut conffiles = String::new();
    for path in inside.iter().filter(|path| path.starts_with("etc")) {
        let _ = writeln!(conffiles, "/{}", path.display());
    }
    write(&to.join("md5sums"), sums.as_bytes())?;
    if !conffiles.is_empty() {
        write(&to.join("conffiles"), conffiles.as_bytes())?;
    }
    for script in ["postinst", "prerm", "postrm"] {
        if from.join(script).exists() {
            copy(&from.join(script), &to.join(script), 0o755)?;
        }
    }
    let template = from.join("control");
    let mut text = std::fs::read_to_string(&template).map_err(file("read", &template))?;
    for (key, value) in values {
        text = text.replace(&format!("${{{key}}}"), value);
    }
    write(&to.join("control"), text.as_bytes())
}

/// What `Installed-Size` counts: deb-control(5) of Debian policy 5.6.20, in KiB.
pub(crate) fn size_kib(root: &Path) -> Result<u64> {
    let mut size = 0;
    for path in files(root)? {
        size += std::fs::metadata(&path).map_err(file("look at", &path))?.len().div_ceil(1024);
    }
    Ok(size)
}

/// All files beneath a folder, in a fixed order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).map_err(file("read", dir))?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let content = std::fs::read(from).map_err(file("read", from))?;
    write(to, &content)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).map_err(file("set the mode of", to))
}

pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    std::fs::write(path, content).map_err(file("write", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
        .map_err(file("set the mode of", path))
}

/// With the modes that Debian wants, whatever the umask of whoever builds.
fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent)?;
    }
    std::fs::create_dir(dir).map_err(file("make", dir))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .map_err(file("set the mode of", dir))
}
