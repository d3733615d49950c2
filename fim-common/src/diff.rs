//! What differs between two states of an object: values in, properties out.

use crate::event::Property;
use crate::state::ObjectState;

/// The properties that are known on both sides and differ, in the order of [`Property`].
///
/// Content differs when the hashes do, and, where either hash is missing, when the sizes of what
/// was and is a regular file do. ctime and the number of names are no properties: each change of
/// anything else moves ctime, and another name is another path's event.
pub fn changes(before: &ObjectState, after: &ObjectState) -> Vec<Property> {
    let size = differ(&before.size, &after.size);
    let content = match (&before.sha256, &after.sha256) {
        (Some(before), Some(after)) => before != after,
        _ => size && is_file(before) && is_file(after),
    };
    [
        (Property::Type, differ(&before.kind, &after.kind)),
        (Property::Content, content),
        (Property::Size, size),
        (Property::Mode, differ(&before.mode, &after.mode)),
        (Property::Uid, differ(&before.uid, &after.uid)),
        (Property::Gid, differ(&before.gid, &after.gid)),
        (Property::Mtime, differ(&before.mtime, &after.mtime)),
        (Property::Inode, differ(&before.inode, &after.inode)),
        (Property::Acl, differ(&before.acl, &after.acl)),
        (Property::Xattrs, differ(&before.xattrs, &after.xattrs)),
        (Property::Capabilities, differ(&before.capabilities, &after.capabilities)),
        (Property::Attributes, differ(&before.attributes, &after.attributes)),
        (Property::TargetPath, differ(&before.target_path, &after.target_path)),
    ]
    .into_iter()
    .filter_map(|(property, differs)| differs.then_some(property))
    .collect()
}

fn differ<T: PartialEq>(before: &Option<T>, after: &Option<T>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if before != after)
}

/// A state that does not say its type is what a collector knows of a file it saw written.
fn is_file(state: &ObjectState) -> bool {
    state.kind.is_none_or(|kind| kind == crate::state::ObjectKind::File)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::ObjectKind;
    use crate::time::Timestamp;

    fn full() -> ObjectState {
        ObjectState {
            kind: Some(ObjectKind::File),
            size: Some(10),
            mode: Some(0o644),
            uid: Some(0),
            gid: Some(0),
            mtime: Some(Timestamp::from_unix(1, 0)),
            ctime: Some(Timestamp::from_unix(1, 0)),
            inode: Some(7),
            device: Some(8),
            nlink: Some(1),
            acl: Some(vec![]),
            xattrs: Some(BTreeMap::new()),
            capabilities: Some(String::new()),
            attributes: Some(vec![]),
            target_path: Some("a".into()),
            sha256: Some("aa".into()),
        }
    }

    /// How to make a state differ from [`full`].
    type Change = fn(&mut ObjectState);

    #[test]
    fn each_property_alone() {
        let cases: [(Change, &[Property]); 16] = [
            (|_| {}, &[]),
            (|s| s.kind = Some(ObjectKind::Dir), &[Property::Type]),
            (|s| s.sha256 = Some("bb".into()), &[Property::Content]),
            (|s| s.size = Some(11), &[Property::Size]),
            (|s| s.mode = Some(0o600), &[Property::Mode]),
            (|s| s.uid = Some(1), &[Property::Uid]),
            (|s| s.gid = Some(1), &[Property::Gid]),
            (|s| s.mtime = Some(Timestamp::from_unix(1, 1)), &[Property::Mtime]),
            (|s| s.inode = Some(1), &[Property::Inode]),
            (|s| s.acl = Some(vec!["user::rw-".into()]), &[Property::Acl]),
            (
                |s| s.xattrs = Some(BTreeMap::from([("user.a".into(), "YQ==".into())])),
                &[Property::Xattrs],
            ),
            (|s| s.capabilities = Some("=ep".into()), &[Property::Capabilities]),
            (|s| s.attributes = Some(vec!["immutable".into()]), &[Property::Attributes]),
            (|s| s.target_path = Some("b".into()), &[Property::TargetPath]),
            (|s| s.ctime = Some(Timestamp::from_unix(2, 0)), &[]),
            (|s| (s.nlink, s.device) = (Some(2), Some(9)), &[]),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            let mut after = full();
            change(&mut after);
            assert_eq!(changes(&full(), &after), expected, "case {number}");
            assert_eq!(changes(&after, &full()), expected, "case {number}, backwards");
        }
    }

    #[test]
    fn what_is_unknown_on_a_side_is_no_change() {
        assert_eq!(changes(&full(), &ObjectState::default()), []);
        assert_eq!(changes(&ObjectState::default(), &full()), []);
    }

    #[test]
    fn content_without_hashes() {
        let unhashed = |size, kind| ObjectState {
            size: Some(size),
            kind,
            sha256: None,
            ..ObjectState::default()
        };
        let file = Some(ObjectKind::File);
        let both = [Property::Content, Property::Size];
        assert_eq!(changes(&unhashed(1, file), &unhashed(2, file)), both);
        assert_eq!(changes(&unhashed(1, None), &unhashed(2, file)), both);
        assert_eq!(changes(&unhashed(1, file), &unhashed(1, file)), []);
        let directory = Some(ObjectKind::Dir);
        assert_eq!(changes(&unhashed(1, directory), &unhashed(2, directory)), [Property::Size]);
        let hashed = ObjectState { sha256: Some("aa".into()), ..unhashed(1, file) };
        assert_eq!(changes(&hashed, &unhashed(2, file)), both, "one hash is known");
        let same = ObjectState { sha256: Some("aa".into()), ..unhashed(2, file) };
        assert_eq!(changes(&hashed, &same), [Property::Size], "the hashes decide");
    }

    #[test]
    fn in_the_order_of_the_properties() {
        let mut after = full();
        (after.mode, after.size, after.sha256) = (Some(0), Some(0), Some("bb".into()));
        let found = changes(&full(), &after);
        assert_eq!(found, [Property::Content, Property::Size, Property::Mode]);
        assert!(found.is_sorted());
    }
}
