//! Ends the program when a case of the suite does not end.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any case takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(100);

type Running = Arc<Mutex<Option<(&'static str, Instant)>>>;

/// Watches until it is dropped.
pub(crate) struct Watch(Running);

impl Watch {
    pub(crate) fn start() -> Self {
        let this = Self(Running::default());
        this.case("the first case");
        let running = this.0.clone();
        thread::spawn(move || {
            loop {
                let case = *running.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((name, since)) = case else { return };
                if since.elapsed() > PATIENCE {
                    println!("\n  {name}  FAILED: does not end\n0 passed, 1 failed");
                    std::process::exit(1);
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        this
    }

    /// This one begins.
    pub(crate) fn case(&self, name: &'static str) {
        self.set(Some((name, Instant::now())));
    }

    fn set(&self, case: Option<(&'static str, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = case;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.set(None);
    }
}
