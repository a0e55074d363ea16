//! Model-checked tests of the core.
