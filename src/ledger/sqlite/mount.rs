//! What kind of file system a file is on, as Linux tells it.

use std::path::{Path, PathBuf};

/// File systems on other machines: their locks and their memory maps do not hold between machines,
/// which is what SQLite's write-ahead log needs (<https://sqlite.org/wal.html>, "all processes using
/// a database must be on the same host computer").
const REMOTE: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.rclone",
];

/// Whether files on such a file system are kept by another machine.
pub(super) fn is_remote(kind: &str) -> bool {
    REMOTE.contains(&kind)
}

/// The kind of file system `path` is on, such as `ext4`; `None` where the system does not tell.
pub(super) fn kind_of(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_in(&table, path)
}

/// Looks `path` up in the text of a mountinfo file (`proc_pid_mountinfo(5)`): the longest mount point
/// that it is under, and of several the last, which hides the others.
fn kind_in(table: &str, path: &Path) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = PathBuf::from(unescape(point));
        let depth = point.components().count();
        if path.starts_with(&point) && found.is_none_or(|(deepest, _)| depth >= deepest) {
            found = Some((depth, kind));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

/// Undoes the octal escapes of white space and backslashes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 24 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1g
41 24 0:40 / /srv/my\\040data rw shared:9 - nfs4 server:/export rw
52 41 8:1 / /srv/my\\040data/local rw - xfs /dev/sda1 rw
60 24 0:41 / /mnt rw - ext4 /dev/sdb1 rw
61 60 0:42 / /mnt rw - cifs //server/share rw
";

    #[test]
    fn a_file_is_on_the_file_system_mounted_nearest_above_it() {
        for (path, kind) in [
            ("/var/lib/tollgate.db", "ext4"),
            ("/run/tollgate.db", "tmpfs"),
            ("/runner/tollgate.db", "ext4"),
            ("/srv/my data/tollgate.db", "nfs4"),
            ("/srv/my data/local/tollgate.db", "xfs"),
            ("/mnt/tollgate.db", "cifs"),
        ] {
            assert_eq!(kind_in(TABLE, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(kind_in("", Path::new("/a")), None);
        assert!(is_remote("nfs4") && !is_remote("ext4"));
    }
}
