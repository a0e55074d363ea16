//! Device trees, read back.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Properties by their full paths.
pub(crate) fn read(blob: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let word = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let len = blob[at..].iter().position(|&b| b == 0).unwrap();
        core::str::from_utf8(&blob[at..at + len]).unwrap().to_owned()
    };
    assert_eq!((word(0), word(4)), (0xd00d_feed, blob.len()));
    let (mut at, strings) = (word(8), word(12));
    let (mut path, mut properties) = (Vec::new(), BTreeMap::new());
    loop {
        let token = word(at);
        at += 4;
        match token {
            1 => {
                let name = text(at);
                at = (at + name.len() + 4) & !3;
                path.push(name);
            }
            2 => {
                path.pop().unwrap();
            }
            3 => {
                let (len, name) = (word(at), text(strings + word(at + 4)));
                let value = blob[at + 8..at + 8 + len].to_vec();
                let old = properties.insert(format!("{}/{name}", path.join("/")), value);
                assert!(old.is_none(), "{name} twice");
                at = (at + 8 + len + 3) & !3;
            }
            4 => {}
            9 => break,
            token => panic!("token {token}"),
        }
    }
    assert!(path.is_empty());
    properties
}

/// Numbers as a property has them.
pub(crate) fn cells(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
