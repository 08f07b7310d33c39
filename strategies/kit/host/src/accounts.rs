//! Whether a group is private: it has no member other than one user.
//!
//! Why: many systems give each user a private group, and new files are writable by it (umask 002). This gives no other
//! user access. Invariant: an unknown group counts as shared, for example one of a directory service. The group of root
//! counts as shared too, because containers often run other users in it.

use std::fs;

/// Whether the group has no member other than `owner`, according to the system's account files.
pub(crate) fn is_private(group: u32, owner: u32) -> bool {
    let [groups, users] = ["/etc/group", "/etc/passwd"].map(|file| fs::read_to_string(file).unwrap_or_default());
    has_no_other(&groups, &users, group, owner)
}

/// `groups` has lines `name:password:gid:member,…`, `users` lines `name:password:uid:gid:…` (group(5), passwd(5)).
fn has_no_other(groups: &str, users: &str, group: u32, owner: u32) -> bool {
    let users: Vec<Vec<&str>> = users.lines().map(|line| line.split(':').collect()).collect();
    let groups: Vec<Vec<&str>> = groups.lines().map(|line| line.split(':').collect()).collect();
    let is = |line: &[&str], field: usize, number: u32| line.get(field).is_some_and(|text| text.parse() == Ok(number));
    let is_owner = |name: &str| users.iter().any(|user| user[0] == name && is(user, 2, owner));
    let ours: Vec<_> = groups.iter().filter(|line| is(line, 2, group)).collect();
    let members = ours.iter().filter_map(|line| line.get(3)).flat_map(|names| names.split(','));
    group != 0
        && !ours.is_empty()
        && members.filter(|name| !name.is_empty()).all(is_owner)
        && users.iter().filter(|user| is(user, 3, group)).all(|user| is(user, 2, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\neve:x:1002:50::/:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nann:x:1000:\nbob:x:1001:ann\nown:x:60:ann\nstaff:x:50:\nnobodys:x:70:\n";

    #[test]
    fn a_group_is_private_only_if_its_owner_is_the_only_member() {
        for (group, owner) in [(1000, 1000), (60, 1000), (70, 1000)] {
            assert!(has_no_other(GROUPS, USERS, group, owner), "{group} of {owner}");
        }
        // another member; the main group of another user; another user's private group; root's group; an unknown group
        for (group, owner) in [(1001, 1001), (50, 1000), (1000, 1001), (0, 0), (9999, 1000)] {
            assert!(!has_no_other(GROUPS, USERS, group, owner), "{group} of {owner}");
        }
        assert!(!has_no_other("", "", 1000, 1000), "no files");
    }
}
