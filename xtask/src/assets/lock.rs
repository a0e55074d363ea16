//! One fetch at a time: two runs that started together must not download into
//! the same folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::progress::Step;

/// Held while something is fetched; released when dropped.
pub(crate) struct Lock {
    file: PathBuf,
}

impl Lock {
    /// Takes the lock named `file`, waiting for another process that holds it.
    /// A holder that no longer exists does not count.
    pub(crate) fn take(file: &Path) -> Result<Self> {
        let own = std::process::id().to_string();
        let mine = file.with_extension(&own);
        let folder = file.parent().context("a lock needs a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&mine, &own).with_context(|| format!("cannot write {}", mine.display()))?;
        let mut waiting = None;
        // A link appears with its content or not at all, unlike a new file.
        while fs::hard_link(&mine, file).is_err() {
            let holder = fs::read_to_string(file).unwrap_or_default();
            if holder == own || !holder.is_empty() && !Path::new("/proc").join(&holder).exists() {
                // Left by a process that was killed; if another waiting process
                // removed it first, the link above decides.
                let _ = fs::remove_file(file);
                continue;
            }
            waiting.get_or_insert_with(|| Step::new(format!("wait for process {holder}")));
            std::thread::sleep(Duration::from_millis(200));
        }
        let _ = fs::remove_file(&mine);
        Ok(Self { file: file.into() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind, it names a process that is gone and is ignored.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_released_and_a_dead_holder_ignored() {
        let folder = std::env::temp_dir().join(format!("xtask-lock-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let file = folder.join("lock");
        let lock = Lock::take(&file).unwrap();
        assert!(file.is_file());
        drop(lock);
        assert!(!file.exists());
        // Process numbers end at 2^22 (proc(5), pid_max).
        fs::write(&file, "99999999").unwrap();
        drop(Lock::take(&file).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
