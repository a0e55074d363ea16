//! Unit tests of the core, on a backend whose every answer is scripted.

mod answers;
mod current;
mod failures;
mod fake;
mod frames;
mod percpu;
mod places;
mod races;
mod requests;
mod table;
mod threads;
