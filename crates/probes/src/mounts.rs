//! Mounted filesystems: `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and statvfs(3).

use crate::{
    Mount, ProbeError,
    kernel::{Kernel, Space},
    source::{Source, malformed},
};
use std::collections::HashMap;

/// Filesystems that hold no data of their own.
const PSEUDO: [&str; 29] = [
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// Filesystems whose server may be away, and then statvfs(3) waits for it, for ever if need be. A
/// monitor that hangs on a dead mount is of no use, so these are never asked for their space. The
/// same goes for everything below FUSE, gluster's own mount included.
const REMOTE: [&str; 19] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
    "virtiofs",
];

fn is_remote(fs_type: &str) -> bool {
    REMOTE.contains(&fs_type) || fs_type.starts_with("fuse.")
}

pub(crate) fn read(source: &Source, kernel: &dyn Kernel) -> Result<Vec<Mount>, ProbeError> {
    let path = "proc/self/mountinfo";
    let text = source.text(path)?;
    let lines = parse(&text).map_err(|number| malformed(path, &format!("line {number}")))?;
    // Where two are mounted at one place, only the later can be asked.
    let visible: HashMap<&str, usize> =
        lines.iter().enumerate().map(|(index, line)| (line.mount_point.as_str(), index)).collect();
    let mounts = lines.iter().enumerate().filter(|(_, line)| !PSEUDO.contains(&line.fs_type.as_str()));
    Ok(mounts
        .map(|(index, line)| {
            let can_be_asked =
                visible.get(line.mount_point.as_str()) == Some(&index) && !is_remote(&line.fs_type);
            let space = if can_be_asked { kernel.space(&line.mount_point) } else { None };
            mount(line.clone(), space)
        })
        .collect())
}

fn mount(line: Line, space: Option<Space>) -> Mount {
    // A filesystem that does not say has a size of 0, and one that makes inodes as needed has none.
    let sized = space.filter(|space| space.size_bytes > 0);
    let counted = space.filter(|space| space.inodes_total > 0);
    Mount {
        mount_point: line.mount_point,
        source: line.source,
        fs_type: line.fs_type,
        read_only: line.read_only,
        size_bytes: sized.map(|space| space.size_bytes),
        available_bytes: sized.map(|space| space.available_bytes),
        inodes_total: counted.map(|space| space.inodes_total),
        inodes_free: counted.map(|space| space.inodes_free),
    }
}

/// What counts of a line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    mount_point: String,
    source: String,
    fs_type: String,
    read_only: bool,
}

/// The error is the number of the line that is not understood.
fn parse(text: &str) -> Result<Vec<Line>, usize> {
    text.lines().enumerate().map(|(index, line)| parse_line(line).ok_or(index + 1)).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any
/// number of optional fields before the dash. An empty source leaves two blanks in a row.
fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split(' ');
    let mount_point = fields.nth(4)?;
    let options = fields.next()?;
    fields.find(|field| *field == "-")?;
    let (fs_type, source, super_options) = (fields.next()?, fields.next()?, fields.next()?);
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Line {
        mount_point: unescape(mount_point),
        source: unescape(source),
        fs_type: unescape(fs_type),
        read_only: is_read_only(options) || is_read_only(super_options),
    })
}

/// Blanks, tabs, line feeds, backslashes and `#` are written as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_has_any_number_of_optional_fields() {
        let line = |text| parse_line(text).unwrap();
        let expected = Line {
            mount_point: "/mnt2".into(),
            source: "/dev/root".into(),
            fs_type: "ext3".into(),
            read_only: false,
        };
        assert_eq!(
            line("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"),
            expected
        );
        assert_eq!(line("36 35 98:0 / /mnt2 rw - ext3 /dev/root rw"), expected);
        assert_eq!(
            line("36 35 98:0 / /mnt2 rw shared:1 master:2 propagate_from:3 - ext3 /dev/root rw"),
            expected
        );
        assert!(line("36 35 98:0 / /m ro,nosuid - tmpfs tmpfs rw").read_only);
        assert!(line("36 35 98:0 / /m rw - ext4 /dev/sr0 ro,x").read_only);
        assert_eq!(line("36 35 0:9 / /m rw - tmpfs  rw").source, "");
    }

    #[test]
    fn a_broken_line_is_named() {
        let good = "36 35 98:0 / / rw - ext3 /dev/root rw\n";
        assert_eq!(parse(&format!("{good}{good}36 35 98:0 / / rw ext3\n")), Err(3));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\011c\012d\134e\043"), "/a b\tc\nd\\e#");
        assert_eq!(unescape(r"/\303\244"), "/ä");
        for plain in [r"\", r"\04", r"\400", r"\089", "", "ä"] {
            assert_eq!(unescape(plain), plain);
        }
    }

    #[test]
    fn remote_filesystems_are_known() {
        for remote in ["nfs4", "fuse.glusterfs", "fuse.sshfs", "cifs", "ceph"] {
            assert!(is_remote(remote));
        }
        for local in ["zfs", "ext4", "fuseblk", "tmpfs", "overlay"] {
            assert!(!is_remote(local));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in any::<String>(), fields in "[-a-z0-7\\\\ ]{0,80}") {
            let _ = parse(&text);
            let _ = parse(&fields);
            let _ = unescape(&fields);
        }

        #[test]
        fn what_the_kernel_escapes_is_read_back(name in "[ -~\t\n]{0,40}") {
            let escape = |c: char| if " \t\n\\#".contains(c) { format!("\\{:03o}", c as u32) } else { c.to_string() };
            let escaped: String = name.chars().map(escape).collect();
            prop_assert_eq!(unescape(&escaped), name);
        }
    }
}
