//! Every target over its stored corpus, and over inputs that are the same in every run.

use std::fs;
use std::path::Path;

use axvcpu_fuzz::{TARGETS, find};

/// The files in the target's corpus. Without one a test would check nothing.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| (file.display().to_string(), fs::read(file).unwrap())).collect()
}

/// Prints which input it was if a target panics.
struct At<'a>(&'a str);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0);
        }
    }
}

fn run(name: &str) {
    let target = find(name).unwrap();
    for (file, bytes) in corpus(name) {
        let _at = At(&file);
        (target.run)(&bytes);
        // What is cut off is as good an input as any.
        (target.run)(&bytes[..bytes.len() / 2]);
    }
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..64 {
        let length = next() as usize % 512;
        let bytes: Vec<u8> = (0..length).map(|_| (next() >> 32) as u8).collect();
        let what = format!("random input {round}");
        let _at = At(&what);
        (target.run)(&bytes);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn no_target_is_left_out() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            // Whoever starts libFuzzer knows the targets by their folders.
            let corpora = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"));
            assert_eq!(corpora.unwrap().count(), names.len());
        }
    };
}

targets! {
    soft decode_riscv64 decode_aarch64 devices_riscv devices_arm devices_x86 plic gic sbi psci tree
    load_riscv load_arm load_x86
}
