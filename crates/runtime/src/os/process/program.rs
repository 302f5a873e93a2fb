//! Is a program safe to run as root?
//!
//! A manifest names absolute paths, and the agent runs them with its own rights. So nobody else
//! may be able to change what stands there: the file, each directory on the way to it and each
//! link must belong to root (or to the agent's own user, when that is not root) and be writable
//! by nobody else. A sticky directory such as `/tmp` may be writable by others, because they
//! can't rename what is not theirs there.
//!
//! The way is walked with one descriptor a component, so that what was checked is what the next
//! step starts from. The program is run by the path that this walk found, not by its descriptor:
//! a script run as `/proc/self/fd/N` could not be read by its interpreter, and `ps` would show a
//! number. Between check and start only those who passed the check could swap the file.

use super::ProcessError;
use rustix::{
    fd::OwnedFd,
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

/// As in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A program that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// As it was asked for; becomes `argv[0]`, because some programs look at their name there.
    pub asked: PathBuf,
    /// Without links.
    pub resolved: PathBuf,
}

/// Why a candidate is not run.
enum Refused {
    Missing,
    Unsafe(String),
    Io(String, Errno),
}

/// The first of these paths that exists, if it is safe to run.
pub(super) fn find(paths: &[PathBuf]) -> Result<Program, ProcessError> {
    let own = rustix::process::geteuid().as_raw();
    for path in paths {
        match check(path, own) {
            Ok(resolved) => return Ok(Program { asked: path.clone(), resolved }),
            Err(Refused::Missing) => {}
            Err(Refused::Unsafe(why)) => return Err(ProcessError::Unsafe { path: path.clone(), why }),
            Err(Refused::Io(what, errno)) => return Err(ProcessError::Io { what, source: errno.into() }),
        }
    }
    Err(ProcessError::NotFound { tried: paths.to_vec() })
}

fn check(path: &Path, own: u32) -> Result<PathBuf, Refused> {
    let mut ahead = components(path).ok_or_else(|| Refused::Unsafe("the path is not absolute".into()))?;
    let mut way = vec![open_root()?];
    let mut names: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            if way.len() > 1 {
                way.pop();
                names.pop();
            }
            continue;
        }
        let here = || display(&names, &name);
        let Some(directory) = way.last() else { break };
        let node = rustix::fs::openat(
            directory,
            name.as_os_str(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| failed(&here(), errno))?;
        let stat = rustix::fs::fstat(&node).map_err(|errno| failed(&here(), errno))?;
        if stat.st_uid != 0 && stat.st_uid != own {
            return Err(Refused::Unsafe(format!("`{}` belongs to user {}", here(), stat.st_uid)));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Refused::Unsafe("too many links".into()));
                }
                let target =
                    rustix::fs::readlinkat(&node, "", Vec::new()).map_err(|errno| failed(&here(), errno))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    way.truncate(1);
                    names.clear();
                }
                for part in relative_components(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            FileType::Directory => {
                writable(&stat, &here())?;
                names.push(name);
                way.push(node);
            }
            FileType::RegularFile => {
                if !ahead.is_empty() {
                    return Err(Refused::Missing);
                }
                writable(&stat, &here())?;
                if stat.st_mode & 0o111 == 0 {
                    return Err(Refused::Unsafe(format!("`{}` is not executable", here())));
                }
                names.push(name);
                return Ok(Path::new("/").join(names.iter().collect::<PathBuf>()));
            }
            _ => return Err(Refused::Unsafe(format!("`{}` is not a regular file", here()))),
        }
    }
    Err(Refused::Unsafe("it is a directory".into()))
}

/// Nobody else may write; in a sticky directory they may, but not to what is not theirs.
fn writable(stat: &Stat, path: &str) -> Result<(), Refused> {
    let sticky = FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_mode & 0o1000 != 0;
    if stat.st_mode & 0o022 != 0 && !sticky {
        return Err(Refused::Unsafe(format!(
            "`{path}` can be written by others (mode {:o})",
            stat.st_mode & 0o7777
        )));
    }
    Ok(())
}

fn open_root() -> Result<OwnedFd, Refused> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("/", errno))
}

fn failed(path: &str, errno: Errno) -> Refused {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Refused::Missing,
        other => Refused::Io(format!("looking at `{path}`"), other),
    }
}

fn components(path: &Path) -> Option<VecDeque<OsString>> {
    path.is_absolute().then(|| relative_components(path).into())
}

fn relative_components(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn display(names: &[OsString], last: &OsStr) -> String {
    names
        .iter()
        .map(OsString::as_os_str)
        .chain([last])
        .fold(String::new(), |path, name| format!("{path}/{}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn program(directory: &Path, name: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn why(paths: &[PathBuf]) -> String {
        match find(paths) {
            Err(ProcessError::Unsafe { why, .. }) => why,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn the_first_that_exists_is_found_and_links_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = program(dir.path(), "real", 0o755);
        symlink("real", dir.path().join("link")).unwrap();
        symlink(dir.path().join("link"), dir.path().join("absolute")).unwrap();
        let asked = dir.path().join("absolute");
        let found = find(&[dir.path().join("missing"), real.join("below"), asked.clone()]).unwrap();
        assert_eq!(found, Program { asked, resolved: real.canonicalize().unwrap() });
    }

    #[test]
    fn a_file_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o775, 0o757] {
            assert!(why(&[program(dir.path(), "p", mode)]).contains("can be written by others"));
        }
        assert!(why(&[program(dir.path(), "p", 0o644)]).contains("not executable"));
    }

    #[test]
    fn an_unsafe_first_candidate_is_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [program(dir.path(), "bad", 0o777), program(dir.path(), "good", 0o755)];
        assert!(why(&paths).contains("bad"));
    }

    #[test]
    fn a_directory_others_may_write_is_refused_on_each_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let inside = program(&open, "p", 0o755);
        symlink(&inside, dir.path().join("link")).unwrap();
        let closed = program(dir.path(), "q", 0o755);
        symlink(&closed, open.join("out")).unwrap();
        for path in [inside.clone(), dir.path().join("link"), open.join("out"), open.join("../q")] {
            assert!(why(&[path]).contains("open` can be written by others"));
        }
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(find(&[inside]).is_ok(), "a sticky directory is fine");
    }

    #[test]
    fn what_is_not_a_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(why(&[dir.path().to_owned()]).contains("directory"));
        assert!(why(&[PathBuf::from("/dev/null")]).contains("not a regular file"));
        assert!(why(&[PathBuf::from("bin/sh")]).contains("not absolute"));
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(why(&[dir.path().join("loop")]).contains("too many links"));
        assert!(matches!(find(&[]), Err(ProcessError::NotFound { .. })));
    }

    #[test]
    fn a_file_or_link_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give files away
        }
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), "p", 0o755);
        symlink(&path, dir.path().join("link")).unwrap();
        std::os::unix::fs::lchown(dir.path().join("link"), Some(12345), None).unwrap();
        assert!(why(&[dir.path().join("link")]).contains("belongs to user 12345"));
        std::os::unix::fs::lchown(&path, Some(12345), None).unwrap();
        assert!(why(&[path]).contains("belongs to user 12345"));
    }
}
