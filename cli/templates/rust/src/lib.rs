//! How full the filesystems of a node are, by df(1).

windlass_sdk::plugin!();

use api::disk::{FilesystemUsage, Guest, UsageError};
use windlass_sdk::{Command, Error};

impl Guest for Plugin {
    fn usage(path: String) -> Result<FilesystemUsage, UsageError> {
        let output = Command::new("df")
            .args(["-B1", "--output=source,size,used,avail,target"])
            .arg(path)
            .run()?;
        parse(&output.success()?.text_lossy()?)
    }
}

/// Reads a headline and a line such as `/dev/sda1 1000 400 550 /srv`. Names may hold spaces.
fn parse(text: &str) -> Result<FilesystemUsage, UsageError> {
    let line = text.lines().nth(1).unwrap_or_default();
    let not_understood =
        || UsageError::Failed(format!("df printed `{line}`, which is not understood"));
    let words: Vec<&str> = line.split_whitespace().collect();
    // The first three numbers in a row are the sizes: what is before and behind them are names.
    let at = words
        .windows(3)
        .position(|three| three.iter().all(|word| word.parse::<u64>().is_ok()))
        .filter(|at| *at > 0 && at + 3 < words.len())
        .ok_or_else(not_understood)?;
    let size = |index: usize| words[index].parse().map_err(|_| not_understood());
    Ok(FilesystemUsage {
        filesystem: words[..at].join(" "),
        size_bytes: size(at)?,
        used_bytes: size(at + 1)?,
        available_bytes: size(at + 2)?,
        mounted_on: words[at + 3..].join(" "),
    })
}

impl From<Error> for UsageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(why) => Self::Denied(why),
            Error::NotFound(what) => Self::NotFound(what),
            Error::Exit(exit) if exit.stderr.contains("No such file or directory") => {
                Self::NotFound(exit.stderr.trim().to_owned())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// `cargo test` runs the operation natively: a script stands for the host.
#[cfg(test)]
mod tests {
    use super::*;
    use windlass_sdk::fake::Host;

    fn df(path: &str) -> Host {
        Host::new().command(
            "df",
            ["-B1", "--output=source,size,used,avail,target", path],
        )
    }

    const HEAD: &str = "Filesystem     1B-blocks      Used     Avail Mounted on\n";

    #[test]
    fn usage_of_a_path() {
        let usage = df("/srv/a").prints(format!("{HEAD}/dev/sda1 1000 400 550 /srv\n"));
        let usage = usage.run(|| Plugin::usage("/srv/a".into())).unwrap();
        assert_eq!(
            (usage.filesystem.as_str(), usage.mounted_on.as_str()),
            ("/dev/sda1", "/srv")
        );
        assert_eq!(
            (usage.size_bytes, usage.used_bytes, usage.available_bytes),
            (1000, 400, 550)
        );
    }

    #[test]
    fn names_may_hold_spaces() {
        let usage = parse(&format!("{HEAD}//nas/the share 9 8 1 /mnt/the share\n")).unwrap();
        assert_eq!(
            (usage.filesystem.as_str(), usage.mounted_on.as_str()),
            ("//nas/the share", "/mnt/the share")
        );
    }

    #[test]
    fn errors_keep_their_kind() {
        let error = |host: Host| host.run(|| Plugin::usage("/x".into())).unwrap_err();
        assert_eq!(
            error(df("/x").denied("no rule")),
            UsageError::Denied("no rule".into())
        );
        let missing = "df: /x: No such file or directory\n";
        assert_eq!(
            error(df("/x").complains(missing).exits(1)),
            UsageError::NotFound(missing.trim().into())
        );
        assert!(matches!(
            error(df("/x").prints("what?\n")),
            UsageError::Failed(_)
        ));
    }
}
